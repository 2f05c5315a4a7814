#pragma once

// The slim precompiled header of everything that uses LibTorch: tensors and autograd, not torch/torch.h (which
// takes four times as long to read).
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>
