#pragma once

#include "trainer/model_layout.h"

// Parameters of ttt_lm, with the names and shapes of the published TTT language models, so that their checkpoints load:
// linear weights are [out, in]. D width, H heads of f = D / H, F feed-forward width, m tokens of a mini-batch.
//
//   model.embed_tokens.weight [V, D]
//   model.layers.<i>.conv.norm.weight [D], conv.conv.weight [D, 1, 4], conv.conv.bias [D]     (pre_conv)
//   model.layers.<i>.seq_norm.weight [D]
//   model.layers.<i>.seq_modeling_block.
//     q_proj.weight, k_proj.weight (not with share_qk), v_proj.weight, o_proj.weight [D, D]
//     conv_q.weight, conv_k.weight [D, 1, 4], conv_q.bias, conv_k.bias [D]                    (share_qk)
//     g_proj.weight [D, D]                                                                    (use_gate)
//     learnable_ttt_lr_weight [H, 1, D], learnable_ttt_lr_bias [H, 1], learnable_token_idx [m]
//     ttt_norm_weight, ttt_norm_bias [H, f]
//     W<n> [H, in, out], b<n> [H, 1, out], n = 1..N; hidden layers are 4 f wide
//     post_norm.weight, post_norm.bias [D]
//   model.layers.<i>.ffn_norm.weight [D]
//   model.layers.<i>.mlp.{gate,up}_proj.weight [F, D], mlp.down_proj.weight [D, F]
//   model.norm.weight [D], lm_head.weight [V, D] (not with tie_embeddings)
//
// Initial values: linear weights, embeddings, W and the rates' weights are normal with standard deviation 0.02,
// convolutions Kaiming, norms 1, what is left 0. Embedding and block i belong to layers 0 and i, the last norm and the
// head to the layer after the last block; all of seq_modeling_block is of the group ttt.
namespace tenfold {

// Throws Error(config) where the model cannot be made.
ModelLayout ttt_lm_layout(const ModelSpec& spec, int vocabulary);

}  // namespace tenfold
