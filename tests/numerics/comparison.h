// A model run beside the reference's numbers.
#pragma once

#include <span>
#include <string>

#include "engine/transformer.h"
#include "numerics/error_bounds.h"
#include "numerics/reference_vectors.h"
#include "numerics/test_model.h"

namespace pd::numerics {

struct Measured : Errors {
  std::size_t rows = 0;
};

// Errors of the logits of prompts of at most `longest` tokens.
Measured compare_logits(engine::Transformer& transformer, const Variant& variant,
                        const ReferenceVectors& reference, std::size_t longest);
// Prints both, and fails the test where a measure exceeds its bound.
void expect_within(const std::string& what, const Measured& measured, const Errors& bound);

// For variants that keep f32: continues the prompts greedily, 50 in a batch. Every token must be
// the reference's.
void expect_same_tokens(engine::Transformer& transformer, const Variant& variant,
                        std::span<const GreedyPrompt> prompts, const std::string& what);

// For variants that round to bf16: feeds the reference's tokens. Where the best token is another
// one, the reference's own gap must be within what rounding can move two logits by, and the share
// of such steps near the expected one. Prints both.
void expect_flips_only_at_small_gaps(engine::Transformer& transformer, const Variant& variant,
                                     std::span<const GreedyPrompt> prompts, const Errors& bound,
                                     double expected_share, const std::string& what);

}  // namespace pd::numerics
