#pragma once

#include <cstdint>
#include <string>

#include "trainer/model_layout.h"

// Parameters of transformer_lm, with the names and shapes of published Llama checkpoints: linear weights are [out, in].
//
//   model.embed_tokens.weight [V, D]
//   model.layers.<i>.input_layernorm.weight [D]
//   model.layers.<i>.self_attn.{q,k,v,o}_proj.weight [D, D]
//   model.layers.<i>.ttt.*                             where model.ttt.layers places a layer, see below
//   model.layers.<i>.post_attention_layernorm.weight [D]
//   model.layers.<i>.mlp.{gate,up}_proj.weight [F, D], mlp.down_proj.weight [D, F]
//   model.norm.weight [D], lm_head.weight [V, D] (not with tie_embeddings)
//
// A projection with LoRA is followed by <projection>.lora_A.weight [rank, in] and <projection>.lora_B.weight [out,
// rank]. A TTT layer of H heads of f = D / H, and an inner model of N layers (1 for linear) whose hidden width is 4 f:
//
//   ttt.{q,k,v,o}_proj.weight [D, D]
//   ttt.W<n>, ttt.b<n>  n = 1..N: (H, in, out) and (H, 1, out)
//   ttt.learnable_ttt_lr_weight (H, 1, D), ttt.learnable_ttt_lr_bias (H, 1)
//   ttt.ttt_norm_weight, ttt.ttt_norm_bias (H, f), ttt.post_norm.weight, ttt.post_norm.bias [D], ttt.gate_alpha [D]
//
// Initial values: linear weights and embeddings are normal with standard deviation 0.02, those of o_proj and down_proj
// 0.02 / sqrt(2 layers), so that the residual stream keeps its scale (Radford et al. 2019); norms 1; W normal 0.02,
// biases 0; lora_A Kaiming, lora_B 0; gate_alpha is gate_init. Embedding and block i belong to layers 0 and i, the last
// norm and lm_head to the layer after the last block.
namespace tenfold {

// Throws Error(config) where the model cannot be made.
ModelLayout transformer_lm_layout(const ModelSpec& spec, int vocabulary);

std::int64_t feed_forward_width(const ModelSpec& spec);  // model.feed_forward with its 0 resolved
int inner_depth(const TttLayerSpec& spec);               // layers of the inner model

}  // namespace tenfold
