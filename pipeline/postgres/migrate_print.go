package postgres

import (
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
)

// PrintMigrations writes everything that [Migrate] does as SQL for psql, so that a DBA can read and run it. It records
// the versions as well: a later Migrate finds nothing to do.
func PrintMigrations(w io.Writer) error {
	names, err := fs.Glob(embedded, "migrations/*.sql")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "-- Objects of observer, schema version %d. Run with: psql -v ON_ERROR_STOP=1 -f FILE\nbegin;\n%scommit;\n", schemaVersion, foundation); err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(embedded, name)
		if err != nil {
			return err
		}
		version, err := goose.NumericComponent(name)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, plainSQL(name, string(text), version)); err != nil {
			return err
		}
	}
	return nil
}

func plainSQL(name, text string, version int64) string {
	begin, commit := "begin;\n", "commit;\n"
	var body strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "-- +goose NO TRANSACTION"):
			begin, commit = "", ""
		case !strings.HasPrefix(line, "-- +goose"):
			body.WriteString(line)
		}
	}
	record := fmt.Sprintf("insert into %[1]s (version_id, is_applied) select %[2]d, true where not exists (select from %[1]s where version_id = %[2]d);\n", versionTable, version)
	return "\n-- " + strings.TrimPrefix(name, "migrations/") + "\n" + begin + body.String() + record + commit
}
