package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

type creditCheck struct{ limit int }

func (c creditCheck) Run(context.Context, *event.Delivery) error {
	return fmt.Errorf("limit %d", c.limit)
}

type creditConfig struct {
	Limit int `toml:"limit" default:"7"`
}

func newCreditCheck(cfg *creditConfig, _ handlers.Env) (handlers.Action, error) {
	return creditCheck{cfg.Limit}, nil
}

func TestRegistryBuildsBuiltinAndTeamActions(t *testing.T) {
	r, err := handlers.NewRegistry(handlers.Define("credit_check", newCreditCheck))
	require.NoError(t, err)
	configs := r.Configs()
	require.Contains(t, configs, "webhook")
	require.IsType(t, &handlers.WebhookConfig{}, configs["webhook"]())
	require.IsType(t, &handlers.LogConfig{}, configs["log"]())

	cfg, ok := configs["credit_check"]().(*creditConfig)
	require.True(t, ok)
	cfg.Limit = 12
	action, err := r.New("credit_check", cfg, handlers.Env{})
	require.NoError(t, err)
	require.EqualError(t, action.Run(t.Context(), delivery(`{}`)), "limit 12")

	logs, err := r.New("log", &handlers.LogConfig{MessageTemplate: "x"}, handlers.Env{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, logs.Run(t.Context(), delivery(`{}`)))
}

func TestRegistryRefuses(t *testing.T) {
	_, err := handlers.NewRegistry(handlers.Define("webhook", newCreditCheck))
	require.ErrorContains(t, err, `the type "webhook" exists already`)
	_, err = handlers.NewRegistry(handlers.Definition{Type: "x"})
	require.ErrorContains(t, err, "make it with handlers.Define")
	r, err := handlers.NewRegistry()
	require.NoError(t, err)
	_, err = r.New("fax", nil, handlers.Env{})
	require.ErrorContains(t, err, `no type "fax" (known are `)
	_, err = r.New("log", &handlers.WebhookConfig{}, handlers.Env{})
	require.ErrorContains(t, err, "its config is a *handlers.WebhookConfig")
}

func TestKeyErrorsFindsEveryKeyInATree(t *testing.T) {
	a, b := &handlers.KeyError{Key: "a", Err: errors.New("is wrong")}, &handlers.KeyError{Key: "b", Err: errors.New("is worse"), Hint: "mend it"}
	list := handlers.KeyErrors(fmt.Errorf("build: %w", errors.Join(a, errors.New("other"), fmt.Errorf("again: %w", b))))
	require.Equal(t, []*handlers.KeyError{a, b}, list)
	require.EqualError(t, b, "b: is worse (mend it)")
	require.Empty(t, handlers.KeyErrors(errors.New("x")))
	require.Empty(t, handlers.KeyErrors(nil))
}
