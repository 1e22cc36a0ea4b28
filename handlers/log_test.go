package handlers_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

func TestLogWritesOneLine(t *testing.T) {
	for level, want := range map[string]string{"": "INFO", "debug": "DEBUG", "info": "INFO", "warn": "WARN", "error": "ERROR"} {
		var out bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		action, err := handlers.NewLog(&handlers.LogConfig{MessageTemplate: "order {{ data.id }}:\n{{ data.s }}", Level: level}, handlers.Env{Logger: logger})
		require.NoError(t, err)
		d := delivery(`{"id": 7, "s": "a\nb"}`)
		require.NoError(t, action.Run(t.Context(), d))
		require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), "a row cannot start a line of its own")
		var line map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &line))
		delete(line, "time")
		require.Equal(t, map[string]any{
			"level": want, "msg": "order 7:\na\nb", "observer": "order-shipped", "action": "notify", "entity": "Order", "event_id": d.Event.ID,
		}, line)
	}
}

func TestLogOfAMissingFieldFailsAtEveryLevel(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	action, err := handlers.NewLog(&handlers.LogConfig{MessageTemplate: "{{ data.nope }}", Level: "debug"}, handlers.Env{Logger: logger})
	require.NoError(t, err)
	require.True(t, event.IsPermanent(action.Run(t.Context(), delivery(`{}`))))
}

func TestLogConfigErrorsNameTheirKey(t *testing.T) {
	env := handlers.Env{Logger: slog.New(slog.DiscardHandler)}
	for key, cfg := range map[string]handlers.LogConfig{"level": {Level: "loud"}, "message_template": {MessageTemplate: "{{ x"}} {
		_, err := handlers.NewLog(&cfg, env)
		list := handlers.KeyErrors(err)
		require.Len(t, list, 1)
		require.Equal(t, key, list[0].Key)
	}
}
