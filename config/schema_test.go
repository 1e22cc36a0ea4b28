package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

func compileSchema(t *testing.T, opts Options) *jsonschema.Schema {
	t.Helper()
	data, err := Schema(opts)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("observer.json", doc))
	schema, err := compiler.Compile("observer.json")
	require.NoError(t, err)
	return schema
}

// document reads TOML as a JSON Schema validator sees it.
func document(t *testing.T, data []byte) map[string]any {
	t.Helper()
	doc := map[string]any{}
	require.NoError(t, toml.Unmarshal(data, &doc))
	return doc
}

func TestSchemaAcceptsWhatLoads(t *testing.T) {
	schema := compileSchema(t, Options{})
	var files []string
	for _, pattern := range []string{"testdata/*.good.toml", "../examples/*.toml"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.GreaterOrEqual(t, len(files), 4)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, schema.Validate(document(t, data)))
		})
	}
}

func TestSchemaRefusesMistakes(t *testing.T) {
	const action = "[[observers.actions]]\ntype = \"webhook\"\nurl = \"https://example.com\"\n"
	const observer = "[[observers]]\nentity = \"Order\"\n"
	tests := map[string]string{
		"an unknown table":                   "[transporter]",
		"an unknown key":                     "[redis]\npoolsize = 1",
		"a number that is too large":         "[redis]\npool_size = 100000",
		"a number that is too small":         "[redis]\npool_size = 0",
		"a number in quotes":                 "[redis]\npool_size = \"5\"",
		"a fraction":                         "[redis]\npool_size = 1.5",
		"a word that is not allowed":         "[log]\nlevel = \"loud\"",
		"a text for a boolean":               "[performance]\nenable_concurrent = \"yes\"",
		"an observer without an action":      "[[observers]]\nentity = \"Order\"",
		"an observer without an entity":      "[[observers]]\n" + action,
		"an observer's name":                 observer + "name = \"A b\"\n" + action,
		"an action without a type":           observer + "[[observers.actions]]\nurl = \"https://example.com\"",
		"an action of an unknown type":       observer + "[[observers.actions]]\ntype = \"fax\"",
		"an action with another's key":       observer + action + "message_template = \"x\"",
		"an action without a required key":   observer + "[[observers.actions]]\ntype = \"log\"",
		"an action with no address":          observer + "[[observers.actions]]\ntype = \"webhook\"",
		"an action with two addresses":       observer + action + "url_env = \"X\"",
		"a header that is a number":          observer + action + "headers = { a = 1 }",
		"an on_failure table that is filled": observer + action + "[observers.on_failure]\naction = \"dlq\"",
	}
	schema := compileSchema(t, Options{})
	require.NoError(t, schema.Validate(document(t, []byte(observer+action))), "the parts are right by themselves")
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			require.Error(t, schema.Validate(document(t, []byte(text))))
		})
	}
}

func TestSchemaKnowsRegisteredActions(t *testing.T) {
	schema := compileSchema(t, withPager())
	text := memory + "type = \"pager\"\nkey = \"x\"\nrate = 2\ntags = [\"a\"]\n"
	require.NoError(t, schema.Validate(document(t, []byte(text))))
	require.Error(t, schema.Validate(document(t, []byte(text+"level = \"high\"\n"))))
	require.Error(t, compileSchema(t, Options{}).Validate(document(t, []byte(text))), "only where they are registered")
}

func TestSchemaDescribesEveryKey(t *testing.T) {
	setEnvironment(t)
	cfg, err := Load("", Options{Needs: NeedsNothing})
	require.NoError(t, err)
	data, err := Schema(Options{})
	require.NoError(t, err)
	root := map[string]any{}
	require.NoError(t, json.Unmarshal(data, &root))
	for _, s := range cfg.Merged() {
		table := root
		for key := range strings.SplitSeq(s.Key, ".") {
			properties, ok := table["properties"].(map[string]any)
			require.True(t, ok, s.Key)
			table, ok = properties[key].(map[string]any)
			require.True(t, ok, s.Key)
		}
		require.NotEmpty(t, table["description"], s.Key)
	}
}
