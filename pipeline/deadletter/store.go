package deadletter

import "context"

// Store holds the dead letters of a transport. A dead letter goes when a replay of it has succeeded, or when it is removed.
type Store interface {
	// List returns the selected dead letters, latest first, and how many there are in all.
	List(ctx context.Context, f Filter) (items []Letter, total int, err error)
	// Get returns one dead letter with its event and every attempt, an error that wraps [ErrNotFound] when there is none.
	Get(ctx context.Context, id int64) (*Letter, error)
	// Stats counts the selected dead letters by observer, action and class, most first.
	Stats(ctx context.Context, f Filter) ([]Group, error)
	// Retry parks a replay under the next generation, due now. It reports false when one is parked already: then it
	// changes nothing, so that two calls at the same time deliver once.
	Retry(ctx context.Context, id int64) (parked bool, err error)
	// Remove deletes a dead letter, with a replay of it that is parked, and returns it as it was. While one is in work
	// nothing is changed and the error wraps [ErrInWork].
	Remove(ctx context.Context, id int64) (*Letter, error)

	// PlanRetry counts what RetryAll would park now.
	PlanRetry(ctx context.Context, f Filter) ([]Group, error)
	// RetryAll parks the selected dead letters that can be delivered again and are not yet, in the order in which they
	// failed first. Told, if it is not nil, is called now and then with the number so far. What it returns counts also
	// when there is an error.
	RetryAll(ctx context.Context, f Filter, told func(int)) (parked int, err error)
	// PlanRemove counts what RemoveAll would delete now.
	PlanRemove(ctx context.Context, f Filter) ([]Group, error)
	// RemoveAll deletes the selected dead letters that are not being delivered again, as RetryAll parks them.
	RemoveAll(ctx context.Context, f Filter, told func(int)) (removed int, err error)

	// Idle lists the listeners (or consumers) for which replays are parked while no process runs that would deliver them.
	Idle(ctx context.Context) ([]string, error)
}
