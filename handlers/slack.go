package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/fraiseql/observer/event"
)

// NewSlack builds the action that posts a message to a Slack webhook from its keys.
func NewSlack(cfg *SlackConfig, env Env) (Action, error) {
	address := addressKeys{"webhook_url", cfg.WebhookURL, "webhook_url_env", cfg.WebhookURLEnv}
	w, err := newPoster(address, http.MethodPost, nil, tlsFiles{}, env)
	message, messageErr := CompileTemplate(cfg.MessageTemplate, Slack)
	if messageErr != nil {
		err = errors.Join(err, &KeyError{Key: "message_template", Err: messageErr})
	}
	if err != nil {
		return nil, err
	}
	w.target.hidden = true // who knows the path may post
	w.secret = env.hides("message_template") || env.hides("channel")
	w.payload = func(e *event.Event) ([]byte, error) {
		text, err := message.Render(e)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		to := json.NewEncoder(&b)
		to.SetEscapeHTML(false) // what Slack may not read as markup is escaped for it already
		err = to.Encode(struct {
			Text    string `json:"text"`
			Channel string `json:"channel,omitempty"`
		}{string(text), cfg.Channel})
		return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
	}
	return w, nil
}
