"""Cases that ONNX Runtime passes in its own process and the server cannot serve, by the reason.

V2 describes a tensor by a name, a datatype out of a fixed list and a shape. A sequence of tensors of one shape is served as
a tensor of one dimension more; one of several shapes has no such form.
"""

# Nobody can say these to the server: a request has no tensor of several shapes, and ONNX Runtime makes no empty sequence.
UNSPEAKABLE = set(
    """
        test_loop13_seq
        test_sequence_map_identity_2_sequences
        test_sequence_map_identity_2_sequences_expanded
        test_sequence_map_identity_1_sequence_1_tensor
        test_sequence_map_identity_1_sequence_1_tensor_expanded
        test_sequence_map_add_2_sequences
        test_sequence_map_add_2_sequences_expanded
        test_sequence_map_extract_shapes
        test_sequence_map_extract_shapes_expanded
        test_sequence_insert_at_back
        test_sequence_insert_at_front
    """.split()
)

# These the server refuses, saying so.
REFUSED = {
    # An answer of several shapes.
    "test_split_to_sequence_2": "is a sequence of tensors whose shapes differ",
    # V2 gives none by leaving the input out, but ONNX Runtime's C interface has no value to stand for it.
    "test_optional_has_element_empty_optional_input": "input 'optional_input' is missing",
}

GAPS = UNSPEAKABLE | REFUSED.keys()
