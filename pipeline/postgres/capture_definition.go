package postgres

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// Definition says how a table is captured.
type Definition struct {
	Table    string   `json:"table"` // quoted, with its schema
	Entity   string   `json:"entity"`
	Key      []string `json:"key"`
	Columns  []string `json:"columns"` // none: all but Exclude
	Exclude  []string `json:"exclude"`
	NoBefore bool     `json:"no_before,omitempty"`
	Tenant   string   `json:"tenant"`
	// DefaultKey says that Key is the primary key because nobody chose another.
	DefaultKey bool `json:"default_key"`
}

// arguments are those of core.fn_entity_change_log_capture; one or two are its fast path, which the way with
// core.fn_observer_convert has not.
func (d *Definition) arguments(trusted bool) []string {
	if trusted && len(d.Key) <= 1 && len(d.Columns)+len(d.Exclude) == 0 && !d.NoBefore && d.Tenant == "" {
		return append([]string{d.Entity}, d.Key...)
	}
	mode, columns := "", d.Columns
	if len(d.Columns) > 0 {
		mode = "include"
	} else if len(d.Exclude) > 0 {
		mode, columns = "exclude", d.Exclude
	}
	return []string{d.Entity, arrayLiteral(d.Key), mode, arrayLiteral(columns), strconv.FormatBool(!d.NoBefore), d.Tenant}
}

// same reports whether two definitions log the same.
func (d *Definition) same(as Definition) bool {
	return slices.Equal(d.arguments(false), as.arguments(false))
}

// command is what makes this definition.
func (d *Definition) command() string {
	words := []string{"observer capture add", shellWord(d.Table), "--entity", shellWord(d.Entity)}
	key := d.Key
	if d.DefaultKey {
		key = nil
	}
	for _, f := range []struct {
		flag    string
		columns []string
	}{{"--key", key}, {"--columns", d.Columns}, {"--exclude", d.Exclude}} {
		if len(f.columns) > 0 {
			words = append(words, f.flag, shellWord(flagList(f.columns)))
		}
	}
	if d.NoBefore {
		words = append(words, "--no-before")
	}
	if d.Tenant != "" {
		words = append(words, "--tenant", shellWord(d.Tenant))
	}
	return strings.Join(words, " ")
}

// flagList writes columns as a flag takes them, which is a line of CSV.
func flagList(columns []string) string {
	fields := make([]string, len(columns))
	for i, c := range columns {
		if strings.ContainsAny(c, ",\"\r\n") {
			c = `"` + strings.ReplaceAll(c, `"`, `""`) + `"`
		}
		fields[i] = c
	}
	return strings.Join(fields, ",")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_.,-]+$`)

func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return `'` + strings.ReplaceAll(s, `'`, `'\''`) + `'`
}

// splitArguments reads pg_trigger.tgargs: each argument ends with a zero byte.
func splitArguments(tgargs []byte) []string {
	return strings.Split(strings.TrimSuffix(string(tgargs), "\x00"), "\x00")
}

// parse reads the arguments of a trigger.
func (d *Definition) parse(args []string) error {
	d.Entity = args[0]
	d.Key, d.Columns, d.Exclude = []string{}, []string{}, []string{}
	if len(args) < 6 {
		d.Key = append(d.Key, args[1:]...)
		return nil
	}
	var columns []string
	if err := scanArray(args[1], &d.Key); err != nil {
		return err
	}
	if err := scanArray(args[3], &columns); err != nil {
		return err
	}
	switch args[2] {
	case "include":
		d.Columns = columns
	case "exclude":
		d.Exclude = columns
	}
	d.NoBefore = args[4] == "false"
	d.Tenant = args[5]
	return nil
}

func scanArray(literal string, into *[]string) error {
	return pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(literal), into)
}

func arrayLiteral(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(item) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// quoteLiteral writes s for SQL whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	s = strings.ReplaceAll(s, `'`, `''`)
	if strings.Contains(s, `\`) {
		return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
	}
	return `'` + s + `'`
}
