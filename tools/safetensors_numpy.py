"""Safetensors files with numpy alone, BF16 included (as uint16 bit patterns).

Format: 8 bytes little-endian header length, that many bytes of JSON, then the tensors' bytes.
"""

import json
import struct

import numpy as np

NAMES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(np.uint16): "BF16",
    np.dtype(np.int32): "I32",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}


def to_bf16(values):
    """float32 -> BF16 bit patterns (uint16), round to nearest even. Finite values only."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    """BF16 bit patterns -> float32, exact."""
    return (np.asarray(bits, dtype=np.uint32) << 16).view(np.float32)


def write(path, tensors, metadata=None):
    """Writes {name: array}. A uint16 array is BF16 bits. Order: widest type first, then name, so
    that every tensor is aligned to its element size."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name in order:
        array = tensors[name]
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def read(path):
    """Returns ({name: array}, metadata). BF16 comes back as uint16 bits."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = array.reshape(entry["shape"])
    return tensors, metadata
