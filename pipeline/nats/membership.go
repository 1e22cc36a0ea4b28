package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/lease"
)

const (
	// memberTTL is how long the server remembers that a member has gone.
	memberTTL = time.Hour
	// renewTimeout is how long a renewal may take: the next one is still in time.
	renewTimeout = lease.Trusted - lease.Renew
)

// errDeposed says that the other workers take this one for dead.
var errDeposed = errors.New("the lease of this worker has ended: its partitions belong to others")

// membership is the lease of one worker on its partitions, and what it knows of the other workers of its consumer. Keys of
// its bucket, behind <consumer>.<partitions>:
//
//	.members.<member>  a worker; it writes the key anew every second, which makes the revision another one
//	.owners            who owns each partition
//
// A worker whose key has not changed for lease.TTL is dead. Whoever finds it deletes the key, in the revision that it knows:
// so the dead one, should it live, fails to renew and knows. By then it has not started anything for a second. Only its loop
// uses a membership, but for trust.
type membership struct {
	bucket     jetstream.KeyValue
	prefix     string
	id         string
	partitions int
	trust      *lease.Trust
	log        *slog.Logger
	suspend    atomic.Bool // tests stop the renewals, as SIGSTOP does

	revision uint64 // of the own key
	failed   bool   // the last renewal did
	complete bool   // all that was there at the start has been read
	peers    map[string]*peer
	owners   assignment
	version  uint64          // of owners
	gone     map[string]bool // dead members whose partitions are to be freed
}

// peer is another worker.
type peer struct {
	revision uint64    // 0: it owns partitions, and its key is not there
	seen     time.Time // when the revision changed, or since when that can be judged
}

func newMembership(bucket jetstream.KeyValue, consumer string, partitions int, log *slog.Logger) *membership {
	return &membership{
		bucket: bucket, prefix: fmt.Sprintf("%s.%d.", consumer, partitions), partitions: partitions, trust: lease.NewTrust(), log: log, peers: map[string]*peer{}, owners: make(assignment, partitions), gone: map[string]bool{},
	}
}

func (m *membership) key(member string) string { return m.prefix + "members." + member }

// join makes the worker known, each time by another name: an answer may have been lost.
func (m *membership) join(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	host, _ := os.Hostname() // "" where there is none
	m.id = token(host) + "-" + uuid.NewString()[:8]
	sent := time.Now()
	if m.revision, err = m.bucket.Create(ctx, m.key(m.id), []byte(m.id)); err == nil {
		m.trust.Renewed(sent)
	}
	return err
}

// renew succeeds unless another worker has taken this one for dead. It outlives the end of ctx: who leaves must know the
// revision.
func (m *membership) renew(ctx context.Context) error {
	if m.suspend.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTimeout)
	defer cancel()
	sent := time.Now()
	revision, err := m.bucket.Update(ctx, m.key(m.id), []byte(m.id), m.revision)
	if err != nil {
		m.failed = true
		return m.whyNot(ctx, err)
	}
	m.revision = revision
	m.trust.Renewed(sent)
	if m.failed { // nobody could be seen meanwhile
		m.failed = false
		for _, p := range m.peers {
			p.seen = time.Now()
		}
	}
	return nil
}

// whyNot tells a renewal that failed from the end of the lease. One whose answer was lost has changed the revision.
func (m *membership) whyNot(ctx context.Context, err error) error {
	if !exists(err) {
		if _, missing := m.bucket.Status(ctx); errors.Is(missing, jetstream.ErrStreamNotFound) || errors.Is(missing, jetstream.ErrBucketNotFound) {
			return errDeposed
		}
		return err
	}
	entry, getErr := m.bucket.Get(ctx, m.key(m.id))
	if errors.Is(getErr, jetstream.ErrKeyNotFound) {
		return errDeposed
	}
	if getErr == nil {
		m.revision = entry.Revision()
	}
	return errors.Join(err, getErr)
}

// apply takes a change of the bucket, nil after those that were there at the start.
func (m *membership) apply(entry jetstream.KeyValueEntry) error {
	if entry == nil {
		m.complete = true
		return nil
	}
	name := strings.TrimPrefix(entry.Key(), m.prefix)
	if name == "owners" {
		return m.applyOwners(entry)
	}
	member := strings.TrimPrefix(name, "members.")
	switch {
	case entry.Operation() != jetstream.KeyValuePut && member != m.id:
		delete(m.peers, member)
		m.expectOwners()
	case entry.Operation() != jetstream.KeyValuePut && entry.Revision() > m.revision:
		return errDeposed
	case member != m.id:
		m.peers[member] = &peer{entry.Revision(), time.Now()}
	}
	return nil
}

func (m *membership) applyOwners(entry jetstream.KeyValueEntry) error {
	if entry.Revision() <= m.version {
		return nil // our own
	}
	owners := assignment{}
	if entry.Operation() == jetstream.KeyValuePut {
		if err := json.Unmarshal(entry.Value(), &owners); err != nil {
			return fmt.Errorf("read the owners of partitions: %w", err)
		}
	}
	m.owners, m.version = make(assignment, m.partitions), entry.Revision()
	copy(m.owners, owners)
	m.expectOwners()
	return nil
}

// expectOwners gives owners whose keys are not there the time of a lease: they may be about to show, or have died between
// two steps.
func (m *membership) expectOwners() {
	for _, owner := range m.owners {
		if owner != "" && owner != m.id && m.peers[owner] == nil {
			m.peers[owner] = &peer{seen: time.Now()}
		}
	}
}

// members lists the workers that are alive, by all that is known.
func (m *membership) members() []string {
	list := []string{m.id}
	for id, p := range m.peers {
		if p.revision > 0 {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// bury ends the leases of the dead.
func (m *membership) bury(ctx context.Context) {
	for _, id := range slices.Sorted(maps.Keys(m.peers)) {
		p := m.peers[id]
		if time.Since(p.seen) <= lease.TTL {
			continue
		}
		if err := m.end(ctx, id, p); err != nil {
			m.log.Debug("a worker that may be dead is not", slog.String("worker", id), slog.Any("error", err))
			p.seen = time.Now()
			continue
		}
		m.log.Warn("a worker of this consumer has died: others take its partitions", slog.String("worker", id), slog.Any("partitions", m.owners.of(id)))
		delete(m.peers, id)
		m.gone[id] = true
	}
}

// end deletes the key of a member, if it is as it was.
func (m *membership) end(ctx context.Context, id string, p *peer) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	revision := p.revision
	if revision == 0 {
		var err error
		if revision, err = m.bucket.Create(ctx, m.key(id), nil); err != nil {
			return err
		}
	}
	return m.bucket.Purge(ctx, m.key(id), jetstream.LastRevision(revision), jetstream.PurgeTTL(memberTTL))
}

// assign makes next the owners, unless another worker was faster.
func (m *membership) assign(ctx context.Context, next assignment) error {
	if slices.Equal(next, m.owners) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	version, err := m.bucket.Update(ctx, m.prefix+"owners", body, m.version)
	if err != nil {
		return err
	}
	m.owners, m.version, m.gone = next, version, map[string]bool{}
	return nil
}

// leave gives everything back.
func (m *membership) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lease.TTL)
	defer cancel()
	m.trust.End()
	for {
		err := m.assign(ctx, m.owners.without(map[string]bool{m.id: true}))
		if err == nil {
			return m.bucket.Purge(ctx, m.key(m.id), jetstream.LastRevision(m.revision), jetstream.PurgeTTL(memberTTL))
		}
		if !exists(err) {
			return err
		}
		entry, err := m.bucket.Get(ctx, m.prefix+"owners")
		if err == nil {
			err = m.applyOwners(entry)
		}
		if err != nil {
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}
