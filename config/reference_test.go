package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheReferenceHasEveryKey holds the tables of docs/reference.md against the structs; -update writes them.
func TestTheReferenceHasEveryKey(t *testing.T) {
	const file, begin, end = "../docs/reference.md", "<!-- made from the code: go test ./config -run Reference -update -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	want := before + begin + keyTables() + end + after
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(text))
}

func keyTables() string {
	var b strings.Builder
	keyTable(&b, reflect.TypeFor[Config](), "", false)
	for _, kind := range slices.Sorted(maps.Keys(BuiltinActions())) {
		fmt.Fprintf(&b, "\n### An action of type `%s`\n\n", kind)
		rows(&b, fieldsOf(reflect.TypeOf(BuiltinActions()[kind]()).Elem()))
	}
	return b.String()
}

// keyTable writes the keys of a table, and then the tables in it.
func keyTable(b *strings.Builder, typ reflect.Type, path string, many bool) {
	fields := fieldsOf(typ)
	if path != "" {
		name := "[" + path + "]"
		if many {
			name = "[" + name + "]"
		}
		fmt.Fprintf(b, "\n### `%s`\n\n", name)
		rows(b, fields)
	}
	for _, f := range fields {
		switch {
		case f.isTable():
			keyTable(b, f.typ, join(path, f.key), false)
		case f.isTables():
			keyTable(b, f.typ.Elem(), join(path, f.key), true)
		}
	}
}

func rows(b *strings.Builder, fields []field) {
	b.WriteString("| key | default | meaning |\n| --- | --- | --- |\n")
	for _, f := range fields {
		if f.isTable() || f.isTables() {
			continue
		}
		standard, allowed := f.tag.Get("default"), ""
		if standard != "" {
			standard = "`" + standard + "`"
		}
		if f.required() {
			standard = "required"
		}
		if words := f.enum(); len(words) > 0 {
			allowed = ": `" + strings.Join(words, "`, `") + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s%s |\n", f.key, standard, strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`).Replace(f.tag.Get("doc")), allowed)
	}
}
