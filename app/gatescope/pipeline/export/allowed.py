"""The operators that a graph may call: functions of tensors and numbers that draw nothing at random."""

from __future__ import annotations

ELEMENTWISE = """
abs.default acos.default add.Scalar add.Tensor addcdiv.default addcmul.default asin.default atan.default
atan2.default __and__.Scalar __and__.Tensor __or__.Scalar __or__.Tensor __xor__.Scalar __xor__.Tensor
bitwise_and.Scalar bitwise_and.Tensor bitwise_not.default bitwise_or.Scalar bitwise_or.Tensor bitwise_xor.Tensor
ceil.default celu.default clamp.default clamp.Tensor clamp_max.default clamp_max.Tensor clamp_min.default
clamp_min.Tensor clip.default cos.default cosh.default div.Scalar div.Scalar_mode div.Tensor div.Tensor_mode
divide.Tensor elu.default eq.Scalar eq.Tensor erf.default erfc.default exp.default exp2.default expm1.default
floor.default floor_divide.default floor_divide.Scalar fmod.Scalar fmod.Tensor frac.default ge.Scalar ge.Tensor
gelu.default glu.default greater.Tensor gt.Scalar gt.Tensor hardshrink.default hardsigmoid.default hardswish.default
hardtanh.default isfinite.default isinf.default isnan.default le.Scalar le.Tensor leaky_relu.default lerp.Scalar
lerp.Tensor less.Tensor log.default log10.default log1p.default log2.default log_sigmoid.default logaddexp.default
logical_and.default logical_not.default logical_or.default logical_xor.default lt.Scalar lt.Tensor
masked_fill.Scalar masked_fill.Tensor maximum.default minimum.default mish.default mul.Scalar mul.Tensor
multiply.Tensor nan_to_num.default ne.Scalar ne.Tensor neg.default negative.default pow.Scalar pow.Tensor_Scalar
pow.Tensor_Tensor prelu.default reciprocal.default relu.default relu6.default remainder.Scalar remainder.Tensor
round.default rsqrt.default rsub.Scalar rsub.Tensor selu.default sigmoid.default sign.default silu.default
sin.default sinh.default softplus.default softshrink.default sqrt.default square.default sub.Scalar sub.Tensor
subtract.Tensor tan.default tanh.default threshold.default true_divide.Tensor trunc.default where.Scalar
where.ScalarOther where.ScalarSelf where.self xlogy.Tensor
"""

IN_PLACE = """
add_.Scalar add_.Tensor clamp_.default clamp_min_.default copy_.default div_.Scalar div_.Tensor elu_.default
exp_.default fill_.Scalar fill_.Tensor gelu_.default hardsigmoid_.default hardswish_.default hardtanh_.default
index_put_.default leaky_relu_.default masked_fill_.Scalar masked_fill_.Tensor mish_.default mul_.Scalar mul_.Tensor
neg_.default relu_.default relu6_.default selu_.default sigmoid_.default silu_.default sqrt_.default squeeze_.dim
sub_.Scalar sub_.Tensor tanh_.default threshold_.default transpose_.default unsqueeze_.default zero_.default
"""

SHAPES = """
alias.default atleast_1d.default atleast_2d.default broadcast_tensors.default broadcast_to.default cat.default
chunk.default clone.default concat.default contiguous.default detach.default diagonal.default expand.default
expand_as.default flatten.using_ints flip.default hstack.default lift_fresh_copy.default mT.default movedim.int
moveaxis.int narrow.default numpy_T.default pad.default constant_pad_nd.default permute.default
reflection_pad1d.default repeat.default repeat_interleave.self_int replication_pad1d.default reshape.default
reshape_as.default roll.default select.int slice.Tensor split.Tensor split.sizes split_with_sizes.default
squeeze.default squeeze.dim squeeze.dims stack.default swapaxes.default t.default tensor_split.sections tile.default
transpose.int unbind.int unflatten.int unfold.default unsafe_chunk.default unsafe_split.Tensor unsqueeze.default
view.default view_as.default vstack.default _unsafe_view.default permute_copy.default
"""

MAKING = """
_to_copy.default arange.default arange.start arange.start_step eye.default eye.m full.default full_like.default
linspace.default new_full.default new_ones.default new_zeros.default one_hot.default ones.default ones_like.default
scalar_tensor.default to.device to.dtype to.dtype_layout to.other tril.default triu.default type_as.default
zeros.default zeros_like.default
"""

REDUCING = """
all.default all.dim amax.default amin.default aminmax.default any.default any.dim any.dims all.dims argmax.default
argmin.default argsort.default argsort.stable count_nonzero.dim_IntList cummax.default cummin.default
cumprod.default cumsum.default diff.default linalg_norm.default linalg_vector_norm.default log_softmax.int
_log_softmax.default logcumsumexp.default logsumexp.default max.default max.dim max.other mean.default mean.dim
median.dim min.default min.dim min.other norm.Scalar norm.ScalarOpt_dim prod.default prod.dim_int softmax.int
_softmax.default _safe_softmax.default sort.default sort.stable std.correction std.default std.dim sum.default
sum.dim_IntList topk.default var.correction var.default var.dim var_mean.correction var_mean.dim
cosine_similarity.default pairwise_distance.default
"""

PRODUCTS = """
addbmm.default addmm.default addmv.default baddbmm.default bmm.default dot.default einsum.default inner.default
linear.default matmul.default mm.default mv.default outer.default scaled_dot_product_attention.default
_scaled_dot_product_flash_attention_for_cpu.default tensordot.default _weight_norm.default
_weight_norm_interface.default
"""

LAYERS = """
adaptive_avg_pool1d.default adaptive_max_pool1d.default adaptive_avg_pool2d.default _adaptive_avg_pool2d.default
avg_pool1d.default avg_pool2d.default batch_norm.default conv1d.default conv1d.padding conv2d.default conv2d.padding
conv_transpose1d.default convolution.default dropout.default dropout_.default alpha_dropout.default
feature_dropout.default embedding.default group_norm.default instance_norm.default layer_norm.default
max_pool1d.default adaptive_max_pool2d.default max_pool2d.default max_pool2d_with_indices.default
_native_batch_norm_legit_no_training.default _native_batch_norm_legit.no_stats native_group_norm.default
native_layer_norm.default rms_norm.default _fused_rms_norm.default upsample_linear1d.default upsample_linear1d.vec
upsample_nearest1d.default upsample_nearest1d.vec
"""

PICKING = """
gather.default index.Tensor index_add.default index_copy.default index_fill.int_Scalar index_put.default
index_select.default scatter.src scatter.value scatter_add.default select_scatter.default slice_scatter.default
take_along_dim.default searchsorted.Tensor bucketize.Tensor
"""

RECURRENT = """
lstm.input gru.input rnn_tanh.input rnn_relu.input lstm_cell.default gru_cell.default rnn_tanh_cell.default
rnn_relu_cell.default
"""

OTHER = """
sym_size.int sym_numel.default detach_.default _assert_async.msg _assert_scalar.default
_assert_tensor_metadata.default sym_constrain_range.default sym_constrain_range_for_size.default
"""

TENSOR_OPERATORS = frozenset(
    f"aten.{name}"
    for family in (ELEMENTWISE, IN_PLACE, SHAPES, MAKING, REDUCING, PRODUCTS, LAYERS, PICKING, RECURRENT, OTHER)
    for name in family.split()
)
"""Names of ATen operators with their overloads, as "aten.linear.default"."""

NUMBERS_FOR_TENSORS = frozenset(f"aten.{name}" for name in ELEMENTWISE.split())
"""Those that PyTorch may give a number in place of their first tensor, as in `1 - x`."""

RECURRENT_OPERATORS = frozenset(f"aten.{name}" for name in RECURRENT.split())
"""Those that become recurrent modules."""

STRINGS = frozenset(
    {"none", "tanh", "floor", "trunc", "constant", "reflect", "replicate", "circular", "same", "valid", "left", "right"}
)
"""What a text among the arguments may be; of an einsum, its equation."""
