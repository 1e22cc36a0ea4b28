package handlers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
)

func slack(t *testing.T, cfg handlers.SlackConfig) handlers.Action {
	t.Helper()
	h, err := handlers.NewHTTP(handlers.HTTPConfig{Concurrency: 4, Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	action, err := handlers.NewSlack(&cfg, handlers.Env{HTTP: h, Timeout: 5 * time.Second})
	require.NoError(t, err)
	return action
}

func TestSlackBodyOnTheWire(t *testing.T) {
	for name, tc := range map[string]struct{ template, channel, data, want string }{
		"text":                 {"Order {{ data.id }} was *shipped*", "", `{"id": 7}`, `{"text":"Order 7 was *shipped*"}`},
		"text and channel":     {"shipped", "#orders", `{}`, `{"text":"shipped","channel":"#orders"}`},
		"markup of the file":   {"<!here> <https://shop.example/{{ data.id }}?a=1&b|order>", "", `{"id": 7}`, `{"text":"<!here> <https://shop.example/7?a=1&b|order>"}`},
		"a mention of all":     {"{{ data.n }}", "", `{"n": "<!channel> <!here>"}`, `{"text":"&lt;!channel&gt; &lt;!here&gt;"}`},
		"a mention of one":     {"{{ data.n }}", "", `{"n": "<@U123> <#C123>"}`, `{"text":"&lt;@U123&gt; &lt;#C123&gt;"}`},
		"a link":               {"{{ data.n }}", "", `{"n": "<https://evil.example|our shop>"}`, `{"text":"&lt;https://evil.example|our shop&gt;"}`},
		"what looks escaped":   {"{{ data.n }}", "", `{"n": "&lt;!channel&gt; & \u003c!channel\u003e"}`, `{"text":"&amp;lt;!channel&amp;gt; &amp; &lt;!channel&gt;"}`},
		"the end of the text":  {"{{ data.n }}", "", `{"n": "\",\"channel\":\"#board\",\"x\":\"\\"}`, `{"text":"\",\"channel\":\"#board\",\"x\":\"\\"}`},
		"a link that it fills": {"<https://shop.example/{{ data.n }}|order>", "", `{"n": "x|y> <!channel"}`, `{"text":"<https://shop.example/x|y&gt; &lt;!channel|order>"}`},
		"NUL and controls":     {"{{ data.n }}", "", `{"n": "a\u0000b\u001b[31m\u007f"}`, `{"text":"a\u0000b\u001b[31m` + "\x7f" + `"}`},
		"lines":                {"{{ data.n }}", "", `{"n": "a\r\nb\u2028c"}`, `{"text":"a\r\nb\u2028c"}`},
		"half a character":     {"{{ data.n }}", "", `{"n": "a\ud83db"}`, `{"text":"a` + "\ufffd" + `b"}`},
		"a placeholder":        {"{{ data.n }}", "", `{"n": "{{ data.secret }}", "secret": "s3cret"}`, `{"text":"{{ data.secret }}"}`},
		"a block":              {"{{ data.n }}", "", `{"n": "{{ if true }}x{{ end }}"}`, `{"text":"{{ if true }}x{{ end }}"}`},
		"a long number":        {"{{ data.n }}", "", `{"n": 9007199254740993}`, `{"text":"9007199254740993"}`},
		"an object":            {"{{ data.n }}", "", `{"n": {"a": "<!channel>"}}`, `{"text":"{\"a\": \"&lt;!channel&gt;\"}"}`},
		"its keys":             {"{{ data }}", "", `{"<!channel>": 1}`, `{"text":"{\"&lt;!channel&gt;\": 1}"}`},
		"nothing":              {"a{{ data.n }}b", "", `{"n": null}`, `{"text":"ab"}`},
		"a condition": {
			"{{ if data.total > 1000 }}large{{ else if data.total > 100 }}middling{{ else }}small{{ end }} order", "", `{"total": 500}`, `{"text":"middling order"}`,
		},
		"a loop": {
			"Items:\n{{ for item in data.items }}\n• {{ item.name }} × {{ item.n }}{{ if loop.last }}.{{ end }}\n{{ end }}", "",
			`{"items": [{"name": "<!channel>", "n": 1}, {"name": "Tea & Co", "n": 2}]}`, `{"text":"Items:\n• &lt;!channel&gt; × 1\n• Tea &amp; Co × 2.\n"}`,
		},
		"a loop over nothing": {"{{ for item in data.items }}{{ item }}{{ end }}none", "", `{"items": []}`, `{"text":"none"}`},
	} {
		t.Run(name, func(t *testing.T) {
			url, got := receiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
			action := slack(t, handlers.SlackConfig{WebhookURL: secret.String(url + "/services/T00/B00/x"), MessageTemplate: tc.template, Channel: tc.channel})
			require.NoError(t, action.Run(t.Context(), delivery(tc.data)))
			r := <-got
			require.Equal(t, "POST", r.method)
			require.Equal(t, "/services/T00/B00/x", r.path)
			require.Equal(t, "application/json", r.header.Get("Content-Type"))
			require.True(t, json.Valid(r.body), "%s", r.body)
			require.Equal(t, tc.want, string(r.body))
		})
	}
}

func TestSlackOutcomeOfEachAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		code       int
		said       string
		retryAfter string
		permanent  bool
		delay      time.Duration
	}{
		"what it cannot read":       {400, "invalid_payload", "", true, 0},
		"a user that is unknown":    {400, "user_not_found", "", true, 0},
		"what is forbidden":         {403, "action_prohibited", "", true, 0},
		"a webhook that is gone":    {404, "no_service", "", false, 0},
		"a channel that is gone":    {404, "channel_not_found", "", false, 0},
		"a channel in the archive":  {410, "channel_is_archived", "", true, 0},
		"too many":                  {429, "rate_limited", "30", false, 30 * time.Second},
		"too many, for how long":    {429, "rate_limited", "", false, 0},
		"trouble of its own":        {500, "rollup_error", "", false, 0},
		"trouble that ends in time": {503, "", "5", false, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			url, got := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
				if tc.retryAfter != "" {
					w.Header().Set("Retry-After", tc.retryAfter)
				}
				w.WriteHeader(tc.code)
				_, _ = io.WriteString(w, tc.said)
			})
			err := slack(t, handlers.SlackConfig{WebhookURL: secret.String(url + "/services/T00000000/B00000000/s3cretPATH"), MessageTemplate: "x"}).Run(t.Context(), delivery(`{}`))
			require.Len(t, got, 1)
			require.ErrorContains(t, err, "POST "+url+": ")
			require.ErrorContains(t, err, tc.said)
			require.Equal(t, tc.permanent, event.IsPermanent(err))
			require.Equal(t, tc.delay, event.RetryDelay(err))
			require.NotContains(t, err.Error(), "services")
		})
	}
}

func TestSlackNeverShowsItsAddress(t *testing.T) {
	url, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "no "+r.RequestURI+" and no "+r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	})
	const path = "/services/T00000000/B00000000/s3cretPATH"
	t.Setenv("SLACK_URL", url+path)
	for name, cfg := range map[string]handlers.SlackConfig{
		"that stands in the file": {WebhookURL: secret.String(url + path), MessageTemplate: "{{ data.n }}"},
		"of the environment":      {WebhookURLEnv: "SLACK_URL", MessageTemplate: "{{ data.n }}"},
	} {
		t.Run(name, func(t *testing.T) {
			action := slack(t, cfg)
			for _, data := range []string{`{"n": 1}`, `{}`} {
				err := action.Run(t.Context(), delivery(data))
				require.Error(t, err)
				for _, s := range []string{"T00000000", "s3cretPATH"} {
					require.NotContains(t, err.Error(), s)
				}
			}
			preview, err := action.(handlers.Previewer).Preview(delivery(`{"n": "<b>"}`))
			require.NoError(t, err)
			require.Equal(t, "POST "+url+"/***", preview.Request)
			require.JSONEq(t, `{"text":"&lt;b&gt;"}`, preview.Body)
			_, err = action.(handlers.Previewer).Preview(delivery(`{}`))
			require.True(t, event.IsPermanent(err))
		})
	}
}

func TestSlackConfigErrorsNameTheirKeyAndHideTheirValue(t *testing.T) {
	h, err := handlers.NewHTTP(handlers.HTTPConfig{})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		cfg  handlers.SlackConfig
		keys []string
	}{
		"no address":               {handlers.SlackConfig{MessageTemplate: "x"}, []string{"webhook_url"}},
		"a variable that is unset": {handlers.SlackConfig{WebhookURLEnv: "NOT_SET_ANYWHERE", MessageTemplate: "x"}, []string{"webhook_url_env"}},
		"an address that is none":  {handlers.SlackConfig{WebhookURL: "hooks.slack.com/services/s3cret", MessageTemplate: "x"}, []string{"webhook_url"}},
		"metadata":                 {handlers.SlackConfig{WebhookURL: "http://169.254.169.254/s3cret", MessageTemplate: "x"}, []string{"webhook_url"}},
		"two mistakes":             {handlers.SlackConfig{WebhookURL: "ftp://s3cret/", MessageTemplate: "s3cret {{ data.n"}, []string{"webhook_url", "message_template"}},
		"a block without an end":   {handlers.SlackConfig{WebhookURL: "http://x/s3cret", MessageTemplate: "s3cret {{ if data.n }}"}, []string{"message_template"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.NewSlack(&tc.cfg, handlers.Env{HTTP: h})
			require.Error(t, err)
			require.NotContains(t, err.Error(), "s3cret")
			var keys []string
			for _, k := range handlers.KeyErrors(err) {
				keys = append(keys, k.Key)
			}
			require.Equal(t, tc.keys, keys)
		})
	}
}
