package cmd

import (
	"log/slog"
	"strings"

	"github.com/fraiseql/observer/config"
)

// logger returns the logger that the flags, the environment and the file ask for.
func (p *program) logger(cfg *config.Config) *slog.Logger {
	format := p.flags.logFormat.value
	if format == "" {
		format = cfg.Log.Format
	}
	opts := &slog.HandlerOptions{Level: p.logLevel(cfg)}
	if format == "json" {
		p.jsonLog = slog.New(slog.NewJSONHandler(p.err, opts))
		return p.jsonLog
	}
	return slog.New(slog.NewTextHandler(p.err, opts))
}

// logLevel asks, in this order, --log-level, FRAISEQL_LOG_LEVEL, RUST_LOG (which the runbooks of the original tool set)
// and the file.
func (p *program) logLevel(cfg *config.Config) slog.Level {
	level := cfg.Log.Level
	if cfg.At("log.level").Env == "" {
		if rust := rustLevel(p.getenv("RUST_LOG")); rust != "" {
			level = rust
		}
	}
	if p.flags.logLevel.value != "" {
		level = p.flags.logLevel.value
	}
	return levels[level]
}

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
	"error": slog.LevelError, "off": slog.LevelError + 1,
}

// rustLevel returns the level that a RUST_LOG such as "info" or "warn,fraiseql_observer=debug" sets for this program, ""
// when it sets none.
func rustLevel(filter string) string {
	general, own := "", ""
	for directive := range strings.SplitSeq(strings.ToLower(filter), ",") {
		target, level, targeted := strings.Cut(strings.TrimSpace(directive), "=")
		if !targeted {
			level = target
		}
		if _, known := levels[level]; !known {
			continue
		}
		switch {
		case !targeted:
			general = level
		case strings.HasPrefix(target, "fraiseql") || strings.HasPrefix(target, "observer"):
			own = level
		}
	}
	if own != "" {
		return own
	}
	return general
}
