#include "trainer/language_stream.h"

#include "experiments/error.h"

namespace tenfold {

std::unique_ptr<LanguageStream> make_language_stream(const Model& model, const ModelState& state,
                                                     const LanguageStreamOptions& options) {
  const std::string& kind = model.spec().kind;
  if (kind == "ttt_lm") return make_ttt_lm_stream(model, state, options);
  if (kind == "transformer_lm") return make_transformer_lm_stream(model, state, options);
  throw Error(ErrorKind::config, "model.kind: " + kind + " reads no streams of tokens; ttt_lm and transformer_lm do");
}

}  // namespace tenfold
