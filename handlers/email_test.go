package handlers

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

// mailDelivery is a delivery of a row.
func mailDelivery(data string) *event.Delivery {
	e := &event.Event{ID: "0198c5a0-0000-7000-8000-000000000001", Type: event.Update, Entity: "Order", EntityID: "7", Data: json.RawMessage(data)}
	return &event.Delivery{Event: e, Observer: "order-shipped", Action: "mail"}
}

// fullEmail is a table with every place that a row can reach.
var fullEmail = EmailConfig{
	ToTemplate: "{{ data.email }}, Ops <ops@example.com>", Subject: "Order {{ data.v }}", BodyTemplate: "Text: {{ data.v }}\n", HTMLTemplate: "<p>{{ data.v }}</p>\n",
}

func newTestEmail(t *testing.T, cfg EmailConfig, smtp SMTPConfig, hidden ...string) *Email {
	t.Helper()
	servers := NewServers(ServersConfig{SMTP: smtp, Concurrency: 10})
	t.Cleanup(servers.Close)
	action, err := NewEmail(&cfg, Env{Servers: servers, Hidden: func(key string) bool { return slices.Contains(hidden, key) }})
	require.NoError(t, err)
	email, ok := action.(*Email)
	require.True(t, ok)
	return email
}

// readMail takes a mail apart: its header, and the text of each of its parts by type.
func readMail(t *testing.T, text string) (mail.Header, map[string]string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	require.NoError(t, err)
	parts := map[string]string{}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	if kind != "multipart/alternative" {
		require.Equal(t, "utf-8", strings.ToLower(params["charset"]))
		require.Equal(t, "quoted-printable", m.Header.Get("Content-Transfer-Encoding"))
		// A reader of parts decodes what they hold.
		text = "--x\r\nContent-Type: " + kind + "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + text[strings.Index(text, "\r\n\r\n")+4:] + "\r\n--x--\r\n"
		params = map[string]string{"boundary": "x"}
		m.Body = strings.NewReader(text)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return m.Header, parts
		}
		require.NoError(t, err)
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		require.NoError(t, err)
		b, err := io.ReadAll(p)
		require.NoError(t, err)
		parts[kind] = string(b)
	}
}

func headerText(t *testing.T, header string) string {
	t.Helper()
	s, err := new(mime.WordDecoder).DecodeHeader(header)
	require.NoError(t, err)
	return s
}

func TestEmailSendsWhatTheFileSays(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	email := newTestEmail(t, EmailConfig{
		To: []string{"Ada Lovelace <ada@example.com>", "bob@example.com, Käthe <k@example.com>"}, CC: []string{"c@example.com", "bob@example.com"}, ReplyTo: "Help <help@shop.test>",
		Subject: "Order {{ data.id }} für {{ data.name }}", BodyTemplate: "Dear {{ data.name }},\n.\n{{ if data.id }}yes{{ end }}\n", HTMLTemplate: "<p>Dear {{ data.name }}</p>",
	}, smtpConfig(t, s.address, "none"))
	require.Equal(t, 20*time.Second, email.Timeout())
	d := mailDelivery(`{"id": 9007199254740993, "name": "Zoë <b>"}`)
	require.NoError(t, email.Run(t.Context(), d))
	d.Generation = 1
	require.NoError(t, email.Run(t.Context(), d))
	mails := s.got()
	require.Len(t, mails, 2)
	require.Equal(t, "orders@shop.test", mails[0].from)
	require.Equal(t, []string{"ada@example.com", "bob@example.com", "k@example.com", "c@example.com"}, mails[0].to, "each once")
	header, parts := readMail(t, mails[0].text)
	require.Equal(t, `"Orders" <orders@shop.test>`, header.Get("From"))
	list, err := header.AddressList("To")
	require.NoError(t, err)
	require.Equal(t, []*mail.Address{{Name: "Ada Lovelace", Address: "ada@example.com"}, {Address: "bob@example.com"}, {Name: "Käthe", Address: "k@example.com"}}, list)
	require.Equal(t, "<c@example.com>, <bob@example.com>", header.Get("Cc"))
	require.Equal(t, `"Help" <help@shop.test>`, header.Get("Reply-To"))
	require.Equal(t, "Order 9007199254740993 für Zoë <b>", headerText(t, header.Get("Subject")))
	require.Equal(t, "<"+d.ID()+"@shop.test>", header.Get("Message-Id"))
	require.Equal(t, "auto-generated", header.Get("Auto-Submitted"))
	require.Equal(t, "1.0", header.Get("Mime-Version"))
	date, err := header.Date()
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), date, time.Minute)
	require.Equal(t, map[string]string{"text/plain": "Dear Zoë <b>,\r\n.\r\nyes\r\n", "text/html": "<p>Dear Zoë &lt;b&gt;</p>"}, parts)
	again, _ := readMail(t, mails[1].text)
	require.Equal(t, header.Get("Message-Id"), again.Get("Message-Id"), "the same mail, tried or replayed")
}

func TestEmailOfTextAlone(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	email := newTestEmail(t, EmailConfig{To: []string{"ada@example.com"}, Subject: "Hello", BodyTemplate: "{{ data.v }}\n"}, smtpConfig(t, s.address, "none"))
	require.NoError(t, email.Run(t.Context(), mailDelivery(`{"v": "a = b"}`)))
	header, parts := readMail(t, s.got()[0].text)
	require.Equal(t, "Hello", header.Get("Subject"))
	require.Equal(t, map[string]string{"text/plain": "a = b\r\n"}, parts)
}

// hostileValues are what a row may hold, as JSON.
var hostileValues = map[string]string{
	"a placeholder":                `"{{ data.secret }}"`,
	"quotes":                       `"\"'` + "`" + `\\"`,
	"NUL":                          `"a\u0000b"`,
	"a lone surrogate":             `"a\ud800b"`,
	"a mention":                    `"<!channel>"`,
	"a header":                     `"x\r\nBcc: evil@example.com"`,
	"a header and a body":          `"x\r\n\r\nevil\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"`,
	"a bare line feed":             `"x\nBcc: evil@example.com"`,
	"a bare carriage return":       `"x\rBcc: evil@example.com"`,
	"an end of the text":           `".\r\n.\r\n\n.\n\r.\r"`,
	"line ends of Unicode":         `"x\u0085y\u2028z\u2029Bcc: evil@example.com"`,
	"a number of many digits":      `9007199254740993`,
	"a list":                       `[1, {"a": "b\r\nc"}]`,
	"null":                         `null`,
	"a long word":                  `"` + strings.Repeat("x", 5000) + `"`,
	"a long text":                  `"` + strings.Repeat("ab ", 5000) + `"`,
	"a long text that is no ASCII": `"` + strings.Repeat("ä€ ", 3000) + `"`,
	"nothing but spaces":           `"` + strings.Repeat(" ", 3000) + `"`,
	"an encoded word":              `"=?UTF-8?B?DQpCY2M6IGV2aWxAZXhhbXBsZS5jb20=?="`,
	"a boundary":                   `"--x\r\nContent-Type: text/html\r\n\r\n<script>"`,
	"markup":                       `"</p><script>alert(1)</script>"`,
}

func TestEmailHoldsWhateverARowHolds(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	email := newTestEmail(t, fullEmail, smtpConfig(t, s.address, "none"))
	for name, value := range hostileValues {
		t.Run(name, func(t *testing.T) {
			before := len(s.got())
			d := mailDelivery(`{"email": "ada@example.com", "secret": "s3cret", "v": ` + value + `}`)
			require.NoError(t, email.Run(t.Context(), d))
			mails := s.got()[before:]
			require.Len(t, mails, 1)
			require.Equal(t, []string{"ada@example.com", "ops@example.com"}, mails[0].to)
			require.NotContains(t, mails[0].text, "s3cret")
			require.True(t, isASCII(mails[0].text))
			for line := range strings.SplitSeq(mails[0].text, "\r\n") {
				require.LessOrEqual(t, len(line), 200)
				require.NotContains(t, line, "\r")
				require.NotContains(t, line, "\n")
				require.NotContains(t, line, "\x00")
			}
			header, parts := readMail(t, mails[0].text)
			names := make([]string, 0, len(header))
			for name, values := range header {
				require.Len(t, values, 1, name)
				names = append(names, name)
			}
			require.ElementsMatch(t, []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}, names)
			require.Len(t, parts, 2)
			plain := text(strings.TrimSpace(value))
			lines := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n")
			require.Equal(t, lines.Replace("Text: "+plain+"\n"), parts["text/plain"])
			require.NotContains(t, parts["text/html"], "<script>")
			require.Equal(t, subjectLine("Order "+plain), headerText(t, header.Get("Subject")))
			require.True(t, utf8.ValidString(headerText(t, header.Get("Subject"))))
		})
	}
}

func TestEmailTakesItsRecipientsFromTheFileAlone(t *testing.T) {
	s := startMailServer(t, mailOptions{utf8: true})
	email := newTestEmail(t, fullEmail, smtpConfig(t, s.address, "none"))
	for name, value := range hostileValues {
		t.Run(name, func(t *testing.T) {
			err := email.Run(t.Context(), mailDelivery(`{"email": `+value+`, "v": 1}`))
			require.Error(t, err)
			require.True(t, event.IsPermanent(err))
			require.NotContains(t, err.Error(), "evil")
		})
	}
	for _, value := range []string{
		"a@example.com, evil@example.com", "a@example.com,evil@example.com", "a@example.com;evil@example.com", "a@example.com evil@example.com",
		"Boss <evil@example.com>", "<evil@example.com>", "evil@example.com (Boss)", "(Boss) evil@example.com", "Team: evil@example.com, b@example.com;",
		`"evil boss"@example.com`, `"evil"@example.com`, "evil@", "@example.com", "evil", "evil@example.com>, <b@example.com", "evil@example.com>", "", " ", ",", "evil@exa\tmple.com",
		"evil@@example.com", "evil@b@example.com", "evil@example.com\u2028", "\u202eevil@example.com", "\ufffdevil@example.com", strings.Repeat("evil", 70) + "@example.com", "=?UTF-8?Q?evil?= <evil@example.com>",
		"evil@example.com\u0000", "\"evil@example.com", "evil@example.com\\", "evil @example.com", "evil@ example.com",
	} {
		data, err := json.Marshal(map[string]any{"email": value, "v": 1})
		require.NoError(t, err)
		err = email.Run(t.Context(), mailDelivery(string(data)))
		require.Error(t, err, value)
		require.True(t, event.IsPermanent(err), value)
		require.Contains(t, []string{"address", "template"}, event.Class(err), value)
		require.NotContains(t, err.Error(), "evil", value)
	}
	require.Empty(t, s.got())
	for _, value := range []string{"ada+tag@example.com", "o'hara@example.com", " ada@example.com ", "ada@[192.0.2.1]", "käthe@example.com", "ada@bücher.example"} {
		data, err := json.Marshal(map[string]any{"email": value, "v": 1})
		require.NoError(t, err)
		before := len(s.got())
		require.NoError(t, email.Run(t.Context(), mailDelivery(string(data))), value)
		mail := s.got()[before]
		require.Equal(t, []string{strings.TrimSpace(value), "ops@example.com"}, mail.to)
		require.Equal(t, !isASCII(value), mail.utf8, "only where it is needed: not every server on the way takes such mails")
	}
}

func TestEmailToAnAddressThatIsNotASCIINeedsAServerThatTakesIt(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	email := newTestEmail(t, fullEmail, smtpConfig(t, s.address, "none"))
	err := email.Run(t.Context(), mailDelivery(`{"email": "käthe@example.com", "v": 1}`))
	require.ErrorContains(t, err, "it offers no SMTPUTF8")
	require.True(t, event.IsPermanent(err))
	require.Equal(t, "address", event.Class(err))
	require.NoError(t, email.Run(t.Context(), mailDelivery(`{"email": "k@example.com", "v": 1}`)))
	require.EqualValues(t, 1, s.conns.Load())
}

func TestEmailMissesAField(t *testing.T) {
	email := newTestEmail(t, fullEmail, smtpConfig(t, "127.0.0.1:1", "none"))
	for data, want := range map[string]string{`{"v": 1}`: "to_template: render data.email", `{"email": "a@example.com"}`: "subject: render data.v"} {
		err := email.Run(t.Context(), mailDelivery(data))
		require.ErrorContains(t, err, want)
		require.True(t, event.IsPermanent(err))
		require.Equal(t, "template", event.Class(err))
		_, previewErr := email.Preview(mailDelivery(data))
		require.EqualError(t, previewErr, err.Error())
	}
}

func TestEmailPlacesOfAddressesInATemplate(t *testing.T) {
	for src, want := range map[string]string{
		"{{ data.a }}": "<x@a.test>",
		"Orders <{{ data.a }}>, {{ data.b }} , ops@example.com": `"Orders" <x@a.test>, <x@b.test>, <ops@example.com>`,
		`"Doe, Jane" <{{ data.a }}>`:                            `"Doe, Jane" <x@a.test>`,
		`{{ data.none | default "ops@example.com" }}`:           "<ops@example.com>",
		"ops@example.com":                                       "<ops@example.com>",
	} {
		r, err := newRecipients(&EmailConfig{ToTemplate: src})
		require.NoError(t, err, src)
		list, err := r.of(mailDelivery(`{"a": "x@a.test", "b": "x@b.test"}`).Event)
		require.NoError(t, err, src)
		require.Equal(t, want, addressLine(list))
	}
	for _, src := range []string{
		"{{ data.a }}@example.com", "ops@{{ data.a }}", "{{ data.a }}{{ data.b }}", "{{ data.a }} {{ data.b }}", "{{ data.name }} <{{ data.a }}>", "{{ data.name }} <ops@example.com>",
		`"{{ data.name }}" <{{ data.a }}>`, "ops@example.com ({{ data.a }})", `"{{ data.a }}"@example.com`, "x{{ data.a }}", "{{ data.a }}.org", "<{{ data.a }}", "Orders", "{{ data.a }} Orders",
		"{{ if data.a }}{{ data.a }}{{ end }}", "{{ data.a",
	} {
		_, err := newRecipients(&EmailConfig{ToTemplate: src})
		require.ErrorContains(t, err, "to_template: ", src)
		require.NotNil(t, KeyErrors(err), src)
	}
}

func TestEmailTellsEveryKeyThatIsWrong(t *testing.T) {
	servers := NewServers(ServersConfig{})
	defer servers.Close()
	_, err := NewEmail(&EmailConfig{
		ToTemplate: "Orders", CC: []string{"a@example.com", "b"}, ReplyTo: "a@example.com, b@example.com",
		Subject: "{{", BodyTemplate: "{{ if }}", HTMLTemplate: "{{ x }}",
	}, Env{Servers: servers})
	require.ErrorContains(t, err, "smtp.from: is missing")
	var keys []string
	for _, e := range KeyErrors(err) {
		keys = append(keys, e.Key)
	}
	require.Equal(t, []string{"from", "to_template", "cc", "reply_to", "subject", "body_template", "html_template"}, keys)
	for name, c := range map[string]struct {
		cfg  EmailConfig
		want string
	}{
		"nobody":              {EmailConfig{}, "to: is missing (add to or to_template)"},
		"both":                {EmailConfig{To: []string{"a@example.com"}, ToTemplate: "b@example.com"}, "to_template: stands beside to (keep one of them"},
		"no address":          {EmailConfig{To: []string{"Ada"}}, `to: is no mail address (write "ada@example.com"`},
		"an empty one":        {EmailConfig{To: []string{""}}, "to: is no mail address"},
		"part of an address":  {EmailConfig{ToTemplate: "{{ data.user }}@example.com"}, `to_template: is no list of addresses in which each placeholder stands for one whole address (write "{{ data.email }}"`},
		"a line end":          {EmailConfig{To: []string{"a@example.com\r\nBcc: b@example.com"}}, "to: is no mail address"},
		"several for answers": {EmailConfig{To: []string{"a@example.com"}, ReplyTo: "a@example.com, b@example.com"}, "reply_to: is more than one address"},
	} {
		t.Run(name, func(t *testing.T) {
			servers := NewServers(ServersConfig{SMTP: SMTPConfig{From: "orders@shop.test"}})
			defer servers.Close()
			_, err := NewEmail(&c.cfg, Env{Servers: servers})
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err = NewEmail(&EmailConfig{}, Env{})
	require.ErrorContains(t, err, "no servers are given")
}

func TestEmailShowsWhatItWouldSend(t *testing.T) {
	cfg := fullEmail
	cfg.CC, cfg.ReplyTo = []string{"c@example.com"}, "help@shop.test"
	smtp := SMTPConfig{Host: "mail.shop.test", From: "Orders <orders@shop.test>"}
	d := mailDelivery(`{"email": "ada@example.com", "v": "7\n<b>"}`)
	p, err := newTestEmail(t, cfg, smtp).Preview(d)
	require.NoError(t, err)
	require.Equal(t, Preview{
		Request: "mail through mail.shop.test:587",
		Fields: []PreviewField{
			{"From", `"Orders" <orders@shop.test>`},
			{"To", `<ada@example.com>, "Ops" <ops@example.com>`},
			{"Cc", "<c@example.com>"},
			{"Reply-To", "<help@shop.test>"},
			{"Subject", "Order 7 <b>"},
			{"Message-ID", "<" + d.ID() + "@shop.test>"},
		},
		Body: "Text: 7\n<b>\n\n\n--- HTML ---\n<p>7\n&lt;b&gt;</p>\n",
	}, p)
	p, err = newTestEmail(t, cfg, smtp, "body_template", "subject", "to_template").Preview(d)
	require.NoError(t, err)
	require.Equal(t, PreviewField{"To", "***"}, p.Fields[1])
	require.Equal(t, PreviewField{"Subject", "***"}, p.Fields[4])
	require.Equal(t, "***\n\n--- HTML ---\n<p>7\n&lt;b&gt;</p>\n", p.Body)
}

func TestEmailChecksItsServer(t *testing.T) {
	s := startMailServer(t, mailOptions{})
	email := newTestEmail(t, fullEmail, smtpConfig(t, s.address, "none"))
	detail, err := email.Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.address+" answers", detail)
	require.Empty(t, s.got())
	s.stop()
	_, err = email.Check(t.Context())
	require.ErrorContains(t, err, "mail server "+s.address+": ")
	require.Equal(t, "refused", event.Class(err))
	err = email.Run(t.Context(), mailDelivery(`{"email": "ada@example.com", "v": 1}`))
	require.ErrorContains(t, err, "mail server "+s.address+": ")
	require.Equal(t, "refused", event.Class(err))
}

func TestEmailIDsOfMails(t *testing.T) {
	require.Equal(t, "0198_o_a@shop.test", messageID("0198_o_a", "orders@shop.test"))
	for _, id := range []string{"a b_o_a", "<x@y>_o_a", "a\r\nb_o_a", "ä_o_a", "a..b_o_a", strings.Repeat("x", 300)} {
		require.Regexp(t, `^[0-9a-f]{64}@shop\.test$`, messageID(id, "orders@shop.test"))
	}
	require.NotEqual(t, messageID("a b", "o@shop.test"), messageID("a  b", "o@shop.test"))
}

func FuzzEmailSubjectIsOneLine(f *testing.F) {
	for _, s := range []string{"", "Order 7", " a  b ", "=?UTF-8?Q?x?=", "ä€😀", strings.Repeat("x", 2000), strings.Repeat("ä", 2000), strings.Repeat(" ", 2000), "a\r\nBcc: b@example.com"} {
		f.Add(s)
	}
	email := &Email{mailer: &mailer{from: &mail.Address{Address: "orders@shop.test"}}}
	f.Fuzz(func(t *testing.T, s string) {
		line := subjectLine(strings.ToValidUTF8(s, "?"))
		o, err := email.pack(&letter{subject: line, id: "id@shop.test", text: s, to: []*mail.Address{{Address: "a@example.com"}}})
		require.NoError(t, err)
		header, _ := readMail(t, string(o.text))
		require.Len(t, header, 9)
		require.Equal(t, line, headerText(t, header.Get("Subject")))
		for line := range strings.SplitSeq(string(o.text), "\r\n") {
			require.LessOrEqual(t, len(line), 100)
			require.True(t, line == "" || strings.TrimSpace(line) != "", "a line of spaces")
		}
	})
}
