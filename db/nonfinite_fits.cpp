#include "db/nonfinite_fits.h"

#include "experiments/identity.h"

namespace tenfold {

NonFiniteFits::NonFiniteFits(Connection& db, const NonFiniteSpec& policy) : policy_(policy) {
  // One that failed begins anew.
  Statement select(db,
                   "SELECT identity, stopped_nonfinite, rate_scale, rate_lowered FROM fit WHERE status <> 'failed' AND "
                   "(stopped_nonfinite <> 0 OR rate_lowered > 0)");
  while (select.next())
    if (!goes_alike({select.integer(1) != 0, select.real(2), select.integer(3)}, policy_))
      apart_.insert(select.text(0));
}

std::string NonFiniteFits::identity_of(const Digest& fit) const {
  const std::string identity = fit.hex();
  return apart_.contains(identity) ? fit_identity_apart(fit, policy_).hex() : identity;
}

}  // namespace tenfold
