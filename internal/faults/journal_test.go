package faults

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/jackc/pgx/v5"
)

// change is one version of one entity: the writers raise rev by one with each change.
type change struct {
	entity string // such as "Order/17"
	rev    int64
}

// journal holds what the writers know of their transactions.
type journal struct {
	mu        sync.Mutex
	committed map[change]string   // COMMIT returned; the value marks the transaction
	unknown   map[string][]change // by transaction: the connection broke during COMMIT
	rolled    int                 // transactions that were rolled back
}

func newJournal() *journal {
	return &journal{committed: map[change]string{}, unknown: map[string][]change{}}
}

func (j *journal) commit(tx string, changes []change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range changes {
		j.committed[c] = tx
	}
}

func (j *journal) doubt(tx string, changes []change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unknown[tx] = changes
}

func (j *journal) rollback() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rolled++
}

// resolve asks the database what became of the transactions in doubt.
func (j *journal) resolve(ctx context.Context, url string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.unknown) == 0 {
		return nil
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for tx, changes := range j.unknown {
		var found int
		err := conn.QueryRow(ctx, `select count(*) from core.tb_entity_change_log where object_data ->> 'tx' = $1`, tx).Scan(&found)
		if err != nil {
			return err
		}
		if found != 0 && found != len(changes) {
			return fmt.Errorf("transaction %s left %d of %d rows: the log is torn", tx, found, len(changes))
		}
		if found > 0 {
			for _, c := range changes {
				j.committed[c] = tx
			}
		}
		delete(j.unknown, tx)
	}
	return nil
}

func (j *journal) all() map[change]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.committed)
}

func (j *journal) size() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.committed)
}
