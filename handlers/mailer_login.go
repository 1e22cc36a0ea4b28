package handlers

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"net/textproto"
	"os"
	"slices"
	"strings"

	"github.com/wneessen/go-mail/smtp"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

// loginWay is a way to log in; start makes one exchange of it.
type loginWay struct {
	name  string
	start func() smtp.Auth
}

// setLogin reads user and password from the environment. Of the ways to log in, the first that the server offers is taken:
// the plain ones, since they are behind TLS and not every server that offers the others has what they need.
func (m *mailer) setLogin(cfg SMTPConfig) error {
	if cfg.UsernameEnv == "" && cfg.PasswordEnv == "" {
		return nil
	}
	if cfg.UsernameEnv == "" || cfg.PasswordEnv == "" {
		return smtpError("username_env", "username_env and password_env belong together", "set both or none")
	}
	user, userErr := setVariable("username_env", cfg.UsernameEnv)
	password, passwordErr := setVariable("password_env", cfg.PasswordEnv)
	var openErr error
	open := cfg.TLS == "none"
	if open && !isLoopback(cfg.Host) {
		openErr = smtpError("tls", "the password would go to "+cfg.Host+" in the clear", `write "start_tls" or "tls", or remove username_env and password_env`)
	}
	if err := errors.Join(userErr, passwordErr, openErr); err != nil {
		return err
	}
	m.login = []loginWay{
		{"PLAIN", func() smtp.Auth { return smtp.PlainAuth("", user, password, cfg.Host, open) }},
		{"LOGIN", func() smtp.Auth { return smtp.LoginAuth(user, password, cfg.Host, open) }},
	}
	sent := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	m.hide = strings.NewReplacer(sent, secret.Mask, base64.StdEncoding.EncodeToString([]byte(password)), secret.Mask, password, secret.Mask)
	return nil
}

func setVariable(key, name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", smtpError(key, "the environment variable "+name+" is not set", "set it")
	}
	return value, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

func (m *mailer) authenticate(ctx context.Context, client *smtp.Client) error {
	_, offered := client.Extension("AUTH")
	ways := strings.Fields(strings.ToUpper(offered))
	for _, way := range m.login {
		if !slices.Contains(ways, way.name) {
			continue
		}
		err := client.Auth(way.start())
		if err == nil {
			return nil
		}
		reply, ok := errors.AsType[*textproto.Error](err)
		if !ok {
			return refused(ctx, "login", err, false)
		}
		reply.Msg = m.hide.Replace(reply.Msg) // some repeat what they were sent
		return event.WithClass(refused(ctx, "login", reply, false), "auth")
	}
	return event.WithClass(errors.New("it offers no login with PLAIN or LOGIN (remove username_env and password_env in [smtp] if it needs none)"), "auth")
}

// authCodes are the replies that ask for another login: an operator mends that, and the mail is not lost meanwhile.
var authCodes = []int{530, 534, 535, 538}
