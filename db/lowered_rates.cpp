#include <string>
#include <unordered_map>

#include "db/store.h"
#include "db/store_impl.h"

// How far learning rates were lowered, so that a run that is resumed goes on from there.
namespace tenfold {

void Store::Impl::set_rate(UnitKind kind, RowId unit, const LoweredRate& rate) {
  Statement update(connection, std::string("UPDATE ") + (kind == UnitKind::fit ? "fit" : "trial") +
                                   " SET rate_scale = ?2, rate_lowered = ?3, rate_lowered_from = ?4 WHERE id = ?1");
  update.bind(1, unit).bind(2, rate.scale).bind(3, std::int64_t{rate.times});
  if (rate.times == 0 || rate.from_step < 0)
    update.bind_null(4);
  else
    update.bind(4, rate.from_step);
  update.run();
}

// A unit that failed, and a fit that is done and has to be computed once more, begin at the full rate again, without
// the checkpoints that the lowered one has left.
void Store::Impl::load_rates(RegisteredPlan& plan) {
  struct Lowered {
    LoweredRate rate;
    bool done;  // with it
  };
  for (const UnitKind kind : {UnitKind::fit, UnitKind::trial}) {
    const std::string table = kind == UnitKind::fit ? "fit" : "trial";
    std::unordered_map<RowId, Lowered> lowered;
    Statement select(connection,
                     "SELECT u.id, u.rate_scale, u.rate_lowered, u.rate_lowered_from, "
                     "(SELECT a.outcome FROM attempt a WHERE a." +
                         table + " = u.id ORDER BY a.id DESC LIMIT 1) = 'done' FROM " + table +
                         " u WHERE u.rate_lowered > 0");
    while (select.next())
      lowered[select.integer(0)] = {
          {select.real(1), static_cast<std::int32_t>(select.integer(2)), select.is_null(3) ? -1 : select.integer(3)},
          select.integer(4) != 0};
    for (UnitState& unit : kind == UnitKind::fit ? plan.fits : plan.trials) {
      const auto found = lowered.find(unit.id);
      if (found == lowered.end()) continue;
      const bool anew = unit.status == TrialStatus::failed || (found->second.done && unit.status != TrialStatus::done);
      if (!anew) {
        unit.rate = found->second.rate;
        continue;
      }
      set_rate(kind, unit.id, {});
      drop_checkpoints_after(kind, unit.id, -1);
      unit.checkpoints.clear();
    }
  }
}

}  // namespace tenfold
