package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// retryPoll is how often the queue looks for what another process parked: dlq retry.
const retryPoll = time.Second

// Fetch implements window.Driver. Once another process leads it finds nothing more.
func (q *RetryQueue) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	for {
		items, wait, err := q.due(ctx, limit)
		if err != nil || len(items) > 0 {
			return items, err
		}
		if err := q.sleep(ctx, wait); err != nil {
			return nil, fmt.Errorf("fetch retries: %w", err)
		}
	}
}

func (q *RetryQueue) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.poke:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// due claims what is due now, or says how long to wait.
func (q *RetryQueue) due(ctx context.Context, limit int) ([]window.Item, time.Duration, error) {
	if err := q.flush(ctx); err != nil && !errors.Is(err, ErrDeposed) {
		return nil, 0, err
	}
	if err := q.heal(ctx); err != nil && !errors.Is(err, ErrDeposed) {
		return nil, 0, err
	}
	items, err := q.nextSuspect(ctx)
	if err != nil || q.runsAlone() {
		return items, retryPoll, err
	}
	if room := limit - len(items); room > 0 {
		busy := q.avoided()
		q.limited.Store(len(busy) > 0)
		parked, err := q.claim(ctx, claimDue, int64(room), q.known(), busy)
		if err != nil {
			return items, 0, err
		}
		items = append(items, q.handOut(parked)...)
	}
	if len(items) > 0 {
		return items, 0, nil
	}
	wait, err := q.untilNext(ctx)
	return nil, wait, err
}

// nextSuspect hands out at most one of the deliveries that an earlier generation had claimed, and none while another one
// is out.
func (q *RetryQueue) nextSuspect(ctx context.Context) ([]window.Item, error) {
	if err := q.findSuspects(ctx); err != nil {
		return nil, err
	}
	for len(q.suspects) > 0 && !q.suspectIsOut() {
		parked, err := q.claim(ctx, claimSuspect, q.suspects[0])
		if err != nil {
			return nil, err
		}
		q.suspects = q.suspects[1:]
		if len(parked) == 0 {
			continue
		}
		q.mu.Lock()
		q.suspect, q.alone = parked[0].claim, parked[0].starts > 1
		q.mu.Unlock()
		items := q.handOut(parked)
		if !isPoison(items[0]) {
			q.cfg.Log.Warn("delivery was in work when its process died: it runs alone", slog.String("event_id", parked[0].eventID),
				slog.String("observer", parked[0].observer), slog.String("action", parked[0].action))
		}
		return items, nil
	}
	return nil, nil
}

func (q *RetryQueue) suspectIsOut() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.suspect != claim{}
}

func (q *RetryQueue) runsAlone() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.alone
}

// known are the rows that this process knows to be its own.
func (q *RetryQueue) known() []int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.AppendSeq(make([]int64, 0, len(q.claims)), maps.Keys(q.claims))
}

func (q *RetryQueue) findSuspects(ctx context.Context) error {
	if q.looked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := q.cfg.DB.Query(ctx, `select pk_observer_retry from core.tb_observer_retry
		where listener = $1 and claimed_by <> $2 order by starts desc, not_before, pk_observer_retry`, q.cfg.Listener, q.generation)
	if err != nil {
		return wrap("look for suspects", err)
	}
	if q.suspects, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return wrap("look for suspects", err)
	}
	q.looked = true
	return nil
}

// claimable leaves out what has others of its lane before it, and what its endpoint would not take now.
const claimable = `
       and not r.follows and r.observer || '/' || r.action <> all ($5::text[])`

// claimDue also takes rows that are this generation's without its knowing: the answer to their claim was lost, or what they
// are to be instead could not be stored.
const claimDue = fence + `, due as (
    select r.pk_observer_retry from core.tb_observer_retry r, lease
     where r.listener = $1 and r.not_before <= statement_timestamp() and (r.claimed_by is null or r.claimed_by = $2 and r.pk_observer_retry <> all ($4::bigint[]))` + claimable + `
     order by r.not_before, r.pk_observer_retry limit $3 for update of r skip locked
), taken as (
    update core.tb_observer_retry r set claimed_by = $2, claims = r.claims + 1 from due where r.pk_observer_retry = due.pk_observer_retry
    returning r.*
)` + takenRows

// claimSuspect marks a start, once a generation.
const claimSuspect = fence + `, taken as (
    update core.tb_observer_retry r set claimed_by = $2, claims = r.claims + 1, starts = r.starts + (r.claimed_by <> $2)::integer
      from lease where r.listener = $1 and r.pk_observer_retry = $3 and r.claimed_by is not null
    returning r.*
)` + takenRows

const takenRows = `
select pk_observer_retry, claims, starts, event_id, observer, action, generation, entity, event::text, attempts::text, coalesce(lane, '')
  from taken order by not_before, pk_observer_retry`

// claim executes a statement that claims rows. It outlives the caller's context: a claim that was sent is of no use to
// anybody else.
func (q *RetryQueue) claim(ctx context.Context, statement string, args ...any) ([]parkedRow, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	var parked []parkedRow
	err := q.inOrder(ctx, func(rows pgx.Rows) (err error) {
		parked, err = pgx.CollectRows(rows, scanParked)
		return err
	}, statement, append([]any{q.cfg.Listener, q.generation}, args...)...)
	return parked, wrap("claim retries", err)
}

// inOrder runs a query along an index. Left alone, Postgres reads and sorts all that is parked as long as the table was not
// analysed with so much in it: 80 ms a claim with 50,000.
func (q *RetryQueue) inOrder(ctx context.Context, read func(pgx.Rows) error, query string, args ...any) error {
	var b pgx.Batch
	b.Queue(`select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)`)
	b.Queue(query, args...).Query(read)
	return q.cfg.DB.SendBatch(ctx, &b).Close()
}

// handOut makes items of claimed rows. Those that cannot be delivered say so: they are to become dead letters.
func (q *RetryQueue) handOut(parked []parkedRow) []window.Item {
	items := make([]window.Item, len(parked))
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range parked {
		p := &parked[i]
		items[i] = p.item(p.starts > max(1, q.cfg.MaxDeliver-1)) // and one that was presumed
		q.claims[p.row] = &claimState{number: p.number, lane: parkedLane{p.observer, p.action, p.lane}}
	}
	return items
}

func isPoison(item window.Item) bool { return item.Msg.Metadata.Get(window.MetadataPoison) != "" }

type parkedRow struct {
	claim
	eventID, observer, action, entity string
	starts, generation                int
	event, attempts                   []byte
	lane                              string
}

func scanParked(row pgx.CollectableRow) (p parkedRow, err error) {
	err = row.Scan(&p.row, &p.number, &p.starts, &p.eventID, &p.observer, &p.action, &p.generation, &p.entity, &p.event, &p.attempts, &p.lane)
	return p, err
}

// item is poison when the row kills or cannot be read.
func (p *parkedRow) item(kills bool) window.Item {
	d, err := p.delivery()
	msg := message.NewMessage(p.eventID, p.event)
	msg.SetContext(event.NewContext(event.WithEvent(msg.Context(), d.Event), d))
	switch {
	case kills:
		msg.Metadata.Set(window.MetadataPoison, "the process died each time while this delivery ran")
		msg.Metadata.Set(window.MetadataPoisonClass, "poison")
	case err != nil:
		msg.Metadata.Set(window.MetadataPoison, err.Error())
		msg.Metadata.Set(window.MetadataPoisonClass, "unreadable")
	}
	return window.Item{Msg: msg, Raw: p.claim}
}

// delivery is what the row can be read as: somebody may have changed it by hand. With an error it is what the columns tell.
func (p *parkedRow) delivery() (*event.Delivery, error) {
	d := &event.Delivery{Observer: p.observer, Action: p.action, Generation: p.generation, Lane: p.lane}
	attemptsErr := p.decodeAttempts(d)
	var err error
	if d.Event, err = event.Decode(p.event); err != nil {
		d.Event = &event.Event{ID: p.eventID, Type: event.Custom, Entity: p.entity, Timestamp: time.Now()}
	}
	return d, errors.Join(attemptsErr, err)
}

func (p *parkedRow) decodeAttempts(d *event.Delivery) error {
	if err := json.Unmarshal(p.attempts, &d.Attempts); err != nil {
		d.Attempts = nil
		return fmt.Errorf("decode attempts: %w", err)
	}
	for _, a := range d.Attempts {
		if a.Generation < d.Generation {
			d.Prior++
		}
	}
	return nil
}

// untilNext says how long nothing will be due that was not a moment ago; at most retryPoll. What was due then and is still
// there has to wait for its lane or its endpoint, and Ack tells of that.
func (q *RetryQueue) untilNext(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var micros int64
	err := q.inOrder(ctx, func(rows pgx.Rows) (err error) {
		micros, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	}, `select coalesce(extract(epoch from min(not_before) - clock_timestamp()) * 1000000, $2)::bigint
		from core.tb_observer_retry where listener = $1 and claimed_by is null and not follows and not_before > statement_timestamp() - interval '20 milliseconds'`,
		q.cfg.Listener, retryPoll.Microseconds())
	if err != nil {
		return 0, wrap("read retries", err)
	}
	return min(max(time.Duration(micros)*time.Microsecond, time.Millisecond), retryPoll), nil
}
