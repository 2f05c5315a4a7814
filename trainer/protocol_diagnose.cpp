#include "trainer/protocol_diagnose.h"

#include "trainer/protocol_json.h"

namespace tenfold {
namespace {

using namespace protocol_json;

json numbers(const std::vector<double>& values) {
  json list = json::array();
  for (const double value : values) list.push_back(finite_or_null(value));
  return list;
}

std::vector<double> number_list(const json& object, const char* key) {
  std::vector<double> values;
  for (const json& value : list(object, key)) {
    if (!value.is_number() && !value.is_null()) fail(std::string("field '") + key + "' holds what is not a number");
    values.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
  }
  return values;
}

std::vector<std::string> text_list(const json& object, const char* key) {
  std::vector<std::string> values;
  for (const json& value : list(object, key)) {
    if (!value.is_string()) fail(std::string("field '") + key + "' holds what is not a text");
    values.push_back(value.get<std::string>());
  }
  return values;
}

json to_json(const std::vector<DiagnosedTokens>& classes) {
  json list = json::array();
  for (const DiagnosedTokens& tokens : classes)
    list.push_back({{"name", tokens.name},
                    {"share", finite_or_null(tokens.share)},
                    {"loss_share", finite_or_null(tokens.loss_share)},
                    {"loss", finite_or_null(tokens.loss)}});
  return list;
}

DiagnosedTokens tokens_of(const json& value) {
  if (!value.is_object()) fail("a class of tokens that is not an object");
  return {text(value, "name"), number(value, "share"), number(value, "loss_share"), number(value, "loss")};
}

json to_json(const DiagnosedLayer& layer) {
  return {{"layer", layer.layer},
          {"kind", layer.kind},
          {"weights_found", layer.weights_found},
          {"l0", numbers(layer.l0)},
          {"lprev", numbers(layer.lprev)},
          {"lafter", numbers(layer.lafter)},
          {"gate_mean_abs", finite_or_null(layer.gate_mean_abs)},
          {"gate_min", finite_or_null(layer.gate_min)},
          {"gate_max", finite_or_null(layer.gate_max)},
          {"movement_start", finite_or_null(layer.movement_start)},
          {"movement_end", finite_or_null(layer.movement_end)},
          {"carry_gap", finite_or_null(layer.carry_gap)},
          {"carried", layer.carried},
          {"reset_each_step", layer.reset_each_step},
          {"mini_batch_size", layer.mini_batch_size},
          {"kl_without", finite_or_null(layer.kl_without)}};
}

DiagnosedLayer layer_of(const json& value) {
  if (!value.is_object()) fail("a diagnosed layer that is not an object");
  DiagnosedLayer layer;
  layer.layer = integer<std::int32_t>(value, "layer");
  if (layer.layer < 0) fail("a diagnosed layer below 0");
  layer.kind = text(value, "kind");
  layer.weights_found = boolean(value, "weights_found");
  layer.l0 = number_list(value, "l0");
  layer.lprev = number_list(value, "lprev");
  layer.lafter = number_list(value, "lafter");
  if (layer.lprev.size() != layer.l0.size() || layer.lafter.size() != layer.l0.size())
    fail("the loss curves of layer " + std::to_string(layer.layer) + " differ in length");
  layer.gate_mean_abs = number(value, "gate_mean_abs");
  layer.gate_min = number(value, "gate_min");
  layer.gate_max = number(value, "gate_max");
  layer.movement_start = number(value, "movement_start");
  layer.movement_end = number(value, "movement_end");
  layer.carry_gap = number(value, "carry_gap");
  layer.carried = boolean(value, "carried");
  layer.reset_each_step = boolean(value, "reset_each_step");
  layer.mini_batch_size = integer<std::int64_t>(value, "mini_batch_size");
  if (layer.mini_batch_size < 1) fail("a diagnosed layer with mini-batches of less than 1 token");
  layer.kl_without = number(value, "kl_without");
  return layer;
}

}  // namespace

std::string encode(const DiagnoseJob& job) {
  return dump_exactly({{"checkpoint", job.checkpoint},
                       {"array_index", job.array_index},
                       {"configuration", job.configuration},
                       {"sample_shape", job.sample_shape},
                       {"classes", job.classes},
                       {"input", job.input},
                       {"tokenizer", job.tokenizer},
                       {"fingerprint", job.fingerprint},
                       {"cache_folder", job.cache_folder},
                       {"repeat", job.repeat},
                       {"fold", job.fold},
                       {"max_positions", job.max_positions},
                       {"device", job.device},
                       {"output", job.output}});
}

DiagnoseJob decode_diagnose_job(std::string_view bytes) {
  const json value = parse_object(bytes, "a diagnosis to make");
  DiagnoseJob job;
  job.checkpoint = text(value, "checkpoint");
  job.array_index = integer<std::int64_t>(value, "array_index");
  job.configuration = text(value, "configuration");
  for (const json& size : list(value, "sample_shape")) {
    const json wrapped = {{"sample_shape", size}};
    job.sample_shape.push_back(integer<std::int64_t>(wrapped, "sample_shape"));
  }
  job.classes = integer<std::int64_t>(value, "classes");
  job.input = text(value, "input");
  job.tokenizer = text(value, "tokenizer");
  job.fingerprint = text(value, "fingerprint");
  job.cache_folder = text(value, "cache_folder");
  job.repeat = integer<std::int32_t>(value, "repeat");
  job.fold = integer<std::int32_t>(value, "fold");
  job.max_positions = integer<std::int64_t>(value, "max_positions");
  if (job.max_positions < 1) fail("a diagnosis of less than 1 position");
  job.device = text(value, "device");
  job.output = text(value, "output");
  return job;
}

std::string encode(const DiagnoseResult& result) {
  json layers = json::array();
  for (const DiagnosedLayer& layer : result.layers) layers.push_back(to_json(layer));
  const DiagnosedModel& model = result.model;
  return dump_exactly({{"layers", std::move(layers)},
                       {"model",
                        {{"kind", model.kind},
                         {"layers", model.layers},
                         {"stream_length", model.stream_length},
                         {"streams", model.streams},
                         {"nll", finite_or_null(model.nll)},
                         {"nll_without_ttt", finite_or_null(model.nll_without_ttt)},
                         {"kl_without_ttt", finite_or_null(model.kl_without_ttt)},
                         {"position_loss", numbers(model.position_loss)},
                         {"codebook_shares", numbers(model.codebook_shares)},
                         {"token_classes", to_json(model.token_classes)},
                         {"missing", model.missing}}}});
}

DiagnoseResult decode_diagnose_result(std::string_view bytes) {
  const json value = parse_object(bytes, "the result of a diagnosis");
  DiagnoseResult result;
  for (const json& layer : list(value, "layers")) result.layers.push_back(layer_of(layer));
  const json& model = field(value, "model");
  if (!model.is_object()) fail("field 'model' of a diagnosis is not an object");
  result.model.kind = text(model, "kind");
  result.model.layers = integer<std::int64_t>(model, "layers");
  result.model.stream_length = integer<std::int64_t>(model, "stream_length");
  result.model.streams = integer<std::int64_t>(model, "streams");
  result.model.nll = number(model, "nll");
  result.model.nll_without_ttt = number(model, "nll_without_ttt");
  result.model.kl_without_ttt = number(model, "kl_without_ttt");
  result.model.position_loss = number_list(model, "position_loss");
  result.model.codebook_shares = number_list(model, "codebook_shares");
  for (const json& tokens : list(model, "token_classes")) result.model.token_classes.push_back(tokens_of(tokens));
  result.model.missing = text_list(model, "missing");
  return result;
}

}  // namespace tenfold
