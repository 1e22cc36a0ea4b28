package postgres

import "context"

// ListCaptures returns every table that is captured, or was and should be. Partitions that are captured with their parent are
// not listed.
func ListCaptures(ctx context.Context, db DB) ([]Capture, error) {
	all, err := findCaptures(ctx, db, nil)
	if err != nil {
		return nil, wrap("list captures", err)
	}
	list := make([]Capture, 0, len(all))
	for i := range all {
		list = append(list, all[i].judge()...)
	}
	return list, nil
}
