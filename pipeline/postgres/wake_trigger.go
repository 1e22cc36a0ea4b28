package postgres

import "context"

// EnsureWake makes sure that the log notifies channel when a row is inserted while a reader sleeps. With forced it does so
// even where max_prepared_transactions > 0, at the price that PREPARE TRANSACTION fails after a captured change. It
// changes nothing, and takes no lock, when the trigger is there.
func EnsureWake(ctx context.Context, db DB, channel string, forced bool) error {
	_, err := db.Exec(ctx, `select core.fn_observer_ensure_wake($1, $2)`, channel, forced)
	return wrap("install wake-up trigger", err)
}
