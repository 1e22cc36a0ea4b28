package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestJSONBReplacesWhatPostgresRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ raw, want string }{
		"NUL":                               {`"a\u0000b"`, `"a\ufffdb"`},
		"NUL in a key":                      {`{"\u0000": 1}`, `{"\ufffd": 1}`},
		"half of a pair":                    {`"\ud83d"`, `"\ufffd"`},
		"the other half":                    {`"\uDE00x"`, `"\ufffdx"`},
		"a pair the wrong way round":        {`"\ude00\ud83d"`, `"\ufffd\ufffd"`},
		"half of a pair before a whole one": {`"\ud83d\ud83d\ude00"`, `"\ufffd\ud83d\ude00"`},
		"half of a pair before an escape":   {`"\ud83d\u0041\ud83d\n"`, `"\ufffd\u0041\ufffd\n"`},
		"half of a pair before letters":     {`"\ud83dude00"`, `"\ufffdude00"`},
		"three in a row":                    {`"\u0000\u0000\u0000"`, `"\ufffd\ufffd\ufffd"`},
		"after an escaped backslash":        {`"\\\u0000"`, `"\\\ufffd"`},
		"bytes that are not UTF-8":          {"\"a\xffb\xc0\x80c\xed\xa0\x80\"", `"a\ufffdb\ufffdc\ufffd"`},
		"both in one text":                  {"{\"n\": 1.10, \"s\": \"\xff\\u0000\"}", `{"n": 1.10, "s": "\ufffd\ufffd"}`},
	} {
		require.Equal(t, tc.want, string(jsonb([]byte(tc.raw))), name)
	}
}

func TestJSONBLeavesTheRestWithoutACopy(t *testing.T) {
	for name, raw := range map[string]string{
		"no text at all":       ``,
		"no escape":            `{"id": 12345678901234567890, "n": 1.1000e-3, "s": "Ünïcode 😀"}`,
		"an escaped backslash": `{"s": "\\u0000 \\\\u0000 \\ud83d"}`,
		"an escaped character": `{"s": "\u0001\u0041\ud83d\ude00\uD83D\uDE00\uffff\n\"\/"}`,
	} {
		in := []byte(raw)
		var got []byte
		require.Zero(t, testing.AllocsPerRun(10, func() { got = jsonb(in) }), name)
		require.Equal(t, raw, string(got), name)
	}
}

func TestJSONBLeavesWhatIsNoJSON(t *testing.T) {
	for _, raw := range []string{`"\`, `"\u00`, `"\u00gg"`, `\u`, `\ud83d\`} {
		require.Equal(t, strings.ReplaceAll(raw, `\ud83d`, `\ufffd`), string(jsonb([]byte(raw))))
	}
}

func TestJSONBDoesNotChangeItsInput(t *testing.T) {
	in := append(make([]byte, 0, 100), `{"a": "\u0000", "b": "\ud800"}`...)
	before := string(in)
	jsonb(in)
	require.Equal(t, before, string(in))
}

// pieces are what random strings are made of: escapes that matter, and what may stand beside them.
var pieces = []string{
	`\u0000`, `\ud83d`, `\ude00`, `\uD83D`, `\uDE00`, `\udbff`, `\udfff`, `\ud800`, `\udc00`, `\u0041`, `\u0001`, `\uffff`, `\ufffd`, `\ue000`, `\ud7ff`,
	`\\`, `\"`, `\n`, `\/`, `u0000`, `0000`, `ud83d`, `a`, `é`, `😀`, `{{ data.x }}`, "\x7f", "\xff", "\xc0", "\xed\xa0\x80", "\xf4\x90\x80\x80",
}

// randomText returns a random string as JSON.
func randomText(random *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('"')
	for range random.IntN(6) {
		b.WriteString(pieces[random.IntN(len(pieces))])
	}
	b.WriteByte('"')
	return b.String()
}

// decoded lists what encoding/json reads, with what jsonb cannot hold replaced: that it has done itself, but for NUL.
func decoded(t *testing.T, raw []byte) (list []json.Token) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(strings.ToValidUTF8(string(raw), "\ufffd")))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err)
		if text, ok := token.(string); ok {
			token = strings.ReplaceAll(text, "\x00", "\ufffd")
		}
		list = append(list, token)
	}
}

func TestJSONBIsWhatPostgresAccepts(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testenv.Postgres(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	refused, rounds := 0, 3000
	if testing.Short() {
		rounds = 500
	}
	for range rounds {
		key, value := randomText(random), randomText(random)
		raw := []byte(`{` + key + `: [` + value + `, 9007199254740993, 1.10]}`)
		fit := jsonb(raw)
		var text, wide string
		err := conn.QueryRow(t.Context(), `select x.value ->> 0, x.value ->> 1 || ' ' || (x.value ->> 2) from jsonb_each($1::jsonb) x`,
			pgx.QueryExecModeExec, string(fit)).Scan(&text, &wide)
		require.NoError(t, err, "%s became %s", raw, fit)
		require.Equal(t, []json.Token{text}, decoded(t, []byte(value)), "%s became %s", raw, fit)
		require.Equal(t, "9007199254740993 1.10", wide)

		_, err = conn.Exec(t.Context(), `select $1::jsonb`, pgx.QueryExecModeExec, string(raw))
		if string(fit) == string(raw) {
			require.NoError(t, err, "%s", raw)
			continue
		}
		refused++
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, "%s was taken, and changed all the same", raw)
		require.Contains(t, []string{"22P02", "22P05", "22021"}, pg.Code)
	}
	require.NotZero(t, refused)
	require.Less(t, refused, rounds)
}

func FuzzJSONB(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		f.Add([]byte(`{` + randomText(random) + `: [` + randomText(random) + `, 9007199254740993]}`))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fit := jsonb(raw)
		require.True(t, utf8.Valid(fit))
		require.Equal(t, string(fit), string(jsonb(fit)), "a second time changes nothing")
		if json.Valid(raw) {
			require.True(t, json.Valid(fit), "%s became %s", raw, fit)
			require.Equal(t, decoded(t, raw), decoded(t, fit), "%s became %s", raw, fit)
			require.NotContains(t, strings.ReplaceAll(string(fit), `\\`, ``), `\u0000`)
		}
	})
}
