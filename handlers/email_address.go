package handlers

import (
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fraiseql/observer/event"
)

// recipients are those to whom a mail goes. How many there are, and where in the list, is the file's to say: each
// placeholder of to_template stands for one whole address, alone or between < and >, and what a row puts there is one bare
// address or an error. A row is never parsed as part of the list, so it can add no recipient, no name and no header.
type recipients struct {
	list   []*mail.Address
	places []addressPlace
}

// addressPlace is where a placeholder stands.
type addressPlace struct {
	at    int // in the list
	name  string
	value *Template
}

const addressHint = `write "ada@example.com" or "Ada <ada@example.com>"`

var (
	errNotAddress = errors.New("is no mail address")
	errPlaces     = &KeyError{
		Key: "to_template", Err: errors.New("is no list of addresses in which each placeholder stands for one whole address"),
		Hint: `write "{{ data.email }}", or "Orders <{{ data.email }}>, ops@example.com"`,
	}
)

func newRecipients(cfg *EmailConfig) (*recipients, error) {
	switch {
	case cfg.ToTemplate != "" && len(cfg.To) > 0:
		return nil, &KeyError{Key: "to_template", Err: errors.New("stands beside to"), Hint: "keep one of them: to_template may name fixed recipients as well"}
	case cfg.ToTemplate != "":
		return templateRecipients(cfg.ToTemplate)
	case len(cfg.To) == 0:
		return nil, &KeyError{Key: "to", Err: errors.New("is missing"), Hint: "add to or to_template"}
	}
	list, err := addresses("to", cfg.To)
	return &recipients{list: list}, err
}

// addresses reads the addresses of a key; each text may hold several, with commas between them.
func addresses(key string, texts []string) ([]*mail.Address, error) {
	var list []*mail.Address
	for _, text := range texts {
		more, err := mail.ParseAddressList(text)
		if err != nil || slices.ContainsFunc(more, tooLong) {
			return nil, &KeyError{Key: key, Err: errNotAddress, Hint: addressHint}
		}
		list = append(list, more...)
	}
	return list, nil
}

// address reads the one address of a key, nil where there is none.
func address(key, text string) (*mail.Address, error) {
	if text == "" {
		return nil, nil
	}
	list, err := addresses(key, []string{text})
	if err == nil && len(list) != 1 {
		err = &KeyError{Key: key, Err: errors.New("is more than one address"), Hint: addressHint}
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func templateRecipients(src string) (*recipients, error) {
	t, err := keyTemplate("to_template", src, Header)
	if err != nil {
		return nil, err
	}
	var sample strings.Builder
	for i, p := range t.parts {
		if p.kind == valuePart {
			sample.WriteString(sampleAddress(i))
		}
		sample.WriteString(p.literal)
	}
	r := &recipients{}
	if r.list, err = mail.ParseAddressList(sample.String()); err != nil || slices.ContainsFunc(r.list, tooLong) {
		return nil, errPlaces
	}
	for i, p := range t.parts {
		if p.kind != valuePart {
			continue
		}
		at := slices.IndexFunc(r.list, func(a *mail.Address) bool { return a.Address == sampleAddress(i) })
		if at < 0 {
			return nil, errPlaces
		}
		r.places = append(r.places, addressPlace{at, p.name, &Template{position: Header, parts: t.parts[i : i+1]}})
	}
	return r, nil
}

// sampleAddress stands for the placeholder that is the i-th part.
func sampleAddress(i int) string { return fmt.Sprintf("placeholder-%d@placeholder.invalid", i) }

// of returns the recipients for an event. Its errors show nothing of the row.
func (r *recipients) of(e *event.Event) ([]*mail.Address, error) {
	list := slices.Clone(r.list)
	for _, p := range r.places {
		value, err := p.value.Render(e)
		if err != nil {
			return nil, fmt.Errorf("to_template: %w", err)
		}
		bare := strings.Trim(string(value), " ")
		if !isBareAddress(bare) {
			err := fmt.Errorf("to_template: what %s holds is not one bare mail address", p.name)
			return nil, event.Permanent(event.WithClass(err, "address"))
		}
		list[p.at] = &mail.Address{Name: r.list[p.at].Name, Address: bare}
	}
	return list, nil
}

// isBareAddress reports whether s is an address without name, comment, quotes or list.
func isBareAddress(s string) bool {
	odd := func(r rune) bool { return r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) }
	if strings.ContainsFunc(s, odd) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == "" && a.Address == s && !tooLong(a)
}

// tooLong reports whether an address is longer than what fits into the commands of RFC 5321, section 4.5.3.1.3.
func tooLong(a *mail.Address) bool { return len(a.Address) > 254 }

// envelope is an address as commands hold it, in angle brackets.
func envelope(a *mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

// addressLine writes addresses as a header has them.
func addressLine(list []*mail.Address) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
