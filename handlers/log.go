package handlers

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// Log is the action that writes a line to the program's log.
type Log struct {
	logger  *slog.Logger
	message *Template
	level   slog.Level
	secret  bool // the message holds what must not be shown
}

// NewLog builds the action from its keys.
func NewLog(cfg *LogConfig, env Env) (Action, error) {
	if env.Logger == nil {
		return nil, errors.New("build log action: no logger is given")
	}
	l := &Log{logger: env.Logger, secret: env.hides("message_template")}
	if cfg.Level != "" {
		if err := l.level.UnmarshalText([]byte(cfg.Level)); err != nil {
			return nil, &KeyError{Key: "level", Err: errors.New("is not a level"), Hint: "write debug, info, warn or error"}
		}
	}
	var err error
	if l.message, err = CompileTemplate(cfg.MessageTemplate, Plain); err != nil {
		return nil, &KeyError{Key: "message_template", Err: err}
	}
	return l, nil
}

// Run writes the line. A message that cannot be rendered is an error also where its level is not logged.
func (l *Log) Run(ctx context.Context, d *event.Delivery) error {
	message, err := l.message.Render(d.Event)
	if err != nil {
		return err
	}
	l.logger.LogAttrs(ctx, l.level, string(message), //nolint:sloglint // the user writes this message
		slog.String("observer", d.Observer), slog.String("action", d.Action),
		slog.String("entity", d.Event.Entity), slog.String("event_id", d.Event.ID))
	return nil
}

// Preview implements [Previewer].
func (l *Log) Preview(d *event.Delivery) (Preview, error) {
	message, err := l.message.Render(d.Event)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Request: "log at level " + strings.ToLower(l.level.String()), Body: string(message)}
	if l.secret {
		p.Body = secret.Mask
	}
	return p, nil
}
