#pragma once

#include <utility>
#include <vector>

#include "trainer/carry_measure.h"
#include "trainer/language_stream.h"
#include "ttt/inner_loop.h"

namespace tenfold {

// What the streams of both language models share: the inner models of their TTT layers begin, are carried, measured and
// closed alike. A model says which layers it has and reads tokens.
class InnerStream : public LanguageStream {
 public:
  at::Tensor feed(const at::Tensor& tokens) final;
  void finish() final;
  std::vector<TttLayer> ttt_layers() const final;

 protected:
  explicit InnerStream(const LanguageStreamOptions& options) : options_(options) {}

  virtual std::vector<int> layers() const = 0;  // that have a TTT layer, ascending
  virtual const InnerLoopOptions& inner_options() const = 0;
  virtual InnerModel inner_model(int layer) const = 0;
  virtual at::Tensor row_coefficient(int) const { return {}; }  // (K, m); undefined: none
  virtual at::Tensor gate_alpha(int) const { return {}; }       // (K, width); undefined: no gate
  virtual const InnerBlock* block(int layer) const = 0;         // null before the first token
  virtual at::Tensor read(const at::Tensor& tokens) = 0;        // logits; moves position_

  const LanguageStreamOptions& options() const { return options_; }

 private:
  InnerBlock* block(int layer) { return const_cast<InnerBlock*>(std::as_const(*this).block(layer)); }
  std::vector<at::Tensor> weights(int layer) const;
  void close();

  LanguageStreamOptions options_;
  CarryMeasure carry_;
  std::int64_t batch_ = 1;
  bool finished_ = false;
};

}  // namespace tenfold
