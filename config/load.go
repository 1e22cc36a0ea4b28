package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
)

// Options says what a program knows that the file refers to, and how much of the file it needs.
type Options struct {
	// Actions are the known action types: each function returns a pointer to a new config struct, with the tags
	// described in the package comment. Nil stands for BuiltinActions().
	Actions map[string]func() any
	// Middleware are the names of the team middleware that the program registered.
	Middleware []string
	// Needs says what the command is going to use; the zero value is for the one that runs the observers.
	Needs Needs
	// Check finds problems that only the caller can see (conditions, templates). It is called once, even where there
	// are problems already, so that all are shown at once; a value that has a problem is then its zero value, and what Check says about it is dropped.
	Check func(*Config) []Problem
}

// Needs says how much of the configuration a command uses.
type Needs int

// What a command may need.
const (
	NeedsAll      Needs = iota // run: everything, also the variables that *_env keys name
	NeedsDatabase              // migrate, capture, dlq: the database
	NeedsNothing               // eval, explain: only that the file is right; a ${NAME} that is not set is none of its business where servers are configured
)

// maxFileSize is far beyond any real file; it keeps a wrong path, such as a device, from filling the memory.
const maxFileSize = 16 << 20

// Load reads the file at path, with the environment over it and the defaults under it. An empty path stands for no
// file at all.
//
// The error is a *Problems that lists everything that is wrong, in the order of the file. Where the file could be
// parsed, the Config is returned beside it, with zero values in the wrong places; it is for reporting, not for running.
func Load(path string, opts Options) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = read(path); err != nil {
			return nil, &Problems{List: []Problem{{
				Position: Position{File: path}, Message: err.Error(), Hint: "name an existing file with --config FILE",
			}}}
		}
	}
	return load(path, data, opts)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read file: %w", cause(err))
	}
	defer func() { _ = f.Close() }() // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", cause(err))
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("read file: is larger than %d MiB", maxFileSize>>20)
	}
	return data, nil
}

// load is Load for a document in memory.
func load(file string, data []byte, opts Options) (*Config, error) {
	if opts.Actions == nil {
		opts.Actions = BuiltinActions()
	}
	doc, syntax := parse(file, data)
	if syntax != nil {
		return nil, &Problems{List: []Problem{*syntax}}
	}
	d := &decoder{opts: opts, cfg: &Config{File: file, values: newSettings()}, blamed: map[string]bool{}, misspelt: map[string]bool{}}
	d.expand(doc, "")
	d.modernize(doc)
	var err error
	if d.merged, err = merge(doc); err != nil {
		return nil, &Problems{List: []Problem{{Position: Position{File: file}, Message: err.Error()}}}
	}
	if file == "" {
		doc.pos = Position{}
	}
	d.decode(doc)
	return d.cfg, d.problems.err()
}

func (d *decoder) decode(doc *node) {
	d.strayVariables(os.Environ())
	d.bothNames()
	d.table(reflect.ValueOf(d.cfg).Elem(), doc, "")
	d.cfg.Transport.Postgres.WakeForced = d.cfg.Transport.Postgres.Wake == "notify" && d.cfg.Explicit("transport.postgres.wake")
	d.nameObservers()
	d.check()
	d.warnUnused()
	if d.opts.Check != nil {
		for _, p := range d.opts.Check(d.cfg) {
			d.accept(p)
		}
	}
	sortProblems(d.cfg.Warnings)
}
