// What a URL may not have as it is: %41 is A (RFC 3986, 2.1).
#pragma once

#include <string>
#include <string_view>

namespace pd::net {

// Of a part of a path. What is not of this form stands for itself.
std::string percent_decoded(std::string_view text);

}  // namespace pd::net
