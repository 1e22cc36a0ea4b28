package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/natsconn"
)

type emitFlags struct {
	entity, id, data string
	kind             choice
	format           *choice
}

func (p *program) emitCommand() *cobra.Command {
	flags := emitFlags{kind: choice{value: string(event.Custom)}}
	for _, t := range event.Types() {
		flags.kind.allowed = append(flags.kind.allowed, string(t))
	}
	cmd := &cobra.Command{
		Use:   "emit --entity ENTITY --data JSON|@FILE|-",
		Short: "Put events into the configured transport",
		Long: `Puts one event into the configured transport, or all of those on standard input, and prints their ids. After an error none
of them is in the change log of Postgres; in a stream of NATS or Redis some may be.

With --data - each JSON value on standard input, such as a line of NDJSON, is the data of one event. Without --entity
each is a whole event instead: {"entity_type": …, "data": …} and what else an event has.`,
		Example: `  observer emit --entity Order --id 17 --data '{"status": "shipped"}'
  observer emit --data - < events.ndjson`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.emit(cmd, &flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.entity, "entity", "", "`ENTITY` that the event is about")
	f.Var(&flags.kind, "type", "type of the event: "+strings.Join(flags.kind.allowed, ", "))
	f.StringVar(&flags.id, "id", "", "`ID` of the entity: events of one entity keep their order")
	f.StringVar(&flags.data, "data", "", "`JSON`, @FILE, or - for standard input")
	_ = cmd.MarkFlagRequired("data") // the flag exists: the line above made it
	flags.format = formatFlag(cmd)
	return cmd
}

func (p *program) emit(cmd *cobra.Command, flags *emitFlags) error {
	source, err := p.emitSource(cmd, flags)
	if err != nil {
		return err
	}
	cfg, err := p.load(cmd, config.NeedsDatabase)
	if err != nil {
		return err
	}
	defer source.done()
	ids, err := p.emitTo(cmd.Context(), cfg, source)
	if err != nil {
		return err
	}
	if flags.format.json() {
		return p.printJSON(struct {
			Events int      `json:"events"`
			IDs    []string `json:"ids"`
		}{len(ids), ids})
	}
	_, err = fmt.Fprintln(p.out, strings.Join(ids, "\n"))
	return err
}

// emitTo puts the events into the transport.
func (p *program) emitTo(ctx context.Context, cfg *config.Config, source *eventSource) (ids []string, err error) {
	switch cfg.Transport.Transport {
	case "postgres":
		err = p.onDatabase(ctx, cfg, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
			ids, err = publish(ctx, db, source)
			return err
		})
	case "nats":
		err = onNATS(ctx, cfg, func(ctx context.Context, conn *natsconn.Conn, _ jetstream.JetStream) error {
			ids, err = publishToNATS(ctx, conn, cfg.Transport.NATS, source)
			return err
		})
	case "redis":
		err = onRedis(ctx, cfg, func(ctx context.Context, client goredis.UniversalClient) error {
			ids, err = publishToRedis(ctx, client, cfg.Transport.Redis.Stream, source)
			return err
		})
	default:
		err = usagef("emit needs a transport that keeps events, the file says %q: its events come from observer run --input FILE", cfg.Transport.Transport)
	}
	return ids, err
}

// eventSource reads the JSON values that become events.
type eventSource struct {
	values *json.Decoder
	name   string
	whole  bool // a value is a whole event, not the data of one
	frame  emitFlags
	count  int
	done   func() // ends the progress
}

func (p *program) emitSource(cmd *cobra.Command, flags *emitFlags) (*eventSource, error) {
	s := &eventSource{frame: *flags, name: "--data", whole: flags.entity == "", done: func() {}}
	if s.whole && (flags.data != "-" || cmd.Flags().Changed("entity")) {
		return nil, usagef("--entity is missing: only whole events, read with --data -, name their own")
	}
	if s.whole && (cmd.Flags().Changed("type") || cmd.Flags().Changed("id")) {
		return nil, usagef("--type and --id need --entity: without it standard input holds whole events, with event_type and entity_id")
	}
	if flags.data == "-" {
		var in io.Reader
		in, s.done = p.progress(withoutMark(p.in), "-")
		s.name, s.values = "standard input", json.NewDecoder(in)
		return s, nil
	}
	text := []byte(flags.data)
	if file, ok := strings.CutPrefix(flags.data, "@"); ok {
		var err error
		if text, err = p.read(file); err != nil {
			return nil, err
		}
		s.name = file
	}
	if !json.Valid(text) {
		return nil, usagef("%s holds no JSON: write JSON, @FILE, or - for standard input", s.name)
	}
	s.values = json.NewDecoder(bytes.NewReader(text))
	return s, nil
}

// next returns the JSON of the next event, and the event itself. It returns io.EOF after the last.
func (s *eventSource) next() (*event.Event, []byte, error) {
	var value json.RawMessage
	if err := s.values.Decode(&value); err != nil {
		return nil, nil, s.ended(err)
	}
	s.count++
	if !s.whole {
		var err error
		if value, err = s.frame.wrap(value); err != nil {
			return nil, nil, err
		}
	}
	e, err := event.Decode(value)
	if err != nil {
		return nil, nil, usagef("read %s, value %d: %w; nothing was emitted", s.name, s.count, err)
	}
	return e, value, nil
}

// all returns every event: what follows cannot be taken back.
func (s *eventSource) all() (events []*event.Event, err error) {
	for {
		e, _, err := s.next()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
}

// ended says what it means that there is no further value.
func (s *eventSource) ended(err error) error {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	switch {
	case errors.Is(err, io.EOF) && s.count > 0:
		return io.EOF
	case errors.Is(err, io.EOF):
		return usagef("%s is empty: nothing was emitted", s.name)
	case syntax || errors.Is(err, io.ErrUnexpectedEOF):
		return usagef("read %s, value %d: %w; nothing was emitted", s.name, s.count+1, err)
	}
	return fmt.Errorf("read %s, value %d: %w; nothing was emitted", s.name, s.count+1, err)
}

// wrap makes an event of its data.
func (f emitFlags) wrap(data json.RawMessage) ([]byte, error) {
	return json.Marshal(struct {
		Entity   string          `json:"entity_type"`
		Type     string          `json:"event_type"`
		EntityID string          `json:"entity_id"`
		Data     json.RawMessage `json:"data"`
	}{f.entity, f.kind.value, f.id, data})
}
