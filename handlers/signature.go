package handlers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// signer signs requests as Standard Webhooks 1.0.0 says:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
type signer struct{ secrets [][]byte }

const secretHint = `write whsec_ and the base64 of 24 to 64 random bytes: echo "whsec_$(openssl rand -base64 32)"` //nolint:gosec // says how to make one

// newSigner reads the secrets from the environment, nil without names. Of two, receivers that know either accept the
// request, so that a secret can be changed on both sides one after the other.
func newSigner(variables []string) (*signer, error) {
	const key = "signing_secret_env"
	if len(variables) == 0 {
		return nil, nil //nolint:nilnil // nil signs nothing
	}
	if len(variables) > 2 {
		return nil, &KeyError{Key: key, Err: errors.New("names more than two variables"), Hint: "name the new and the old secret"}
	}
	s := &signer{}
	for i, name := range variables {
		key := key + "[" + strconv.Itoa(i) + "]"
		value := os.Getenv(name)
		if value == "" {
			return nil, &KeyError{Key: key, Err: fmt.Errorf("the environment variable %s is not set", name), Hint: secretHint}
		}
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(value, "whsec_"))
		if err != nil || len(secret) < 24 || len(secret) > 64 {
			return nil, &KeyError{Key: key, Err: fmt.Errorf("%s does not hold a signing secret", name), Hint: secretHint}
		}
		s.secrets = append(s.secrets, secret)
	}
	return s, nil
}

// sign returns the value of webhook-signature.
func (s *signer) sign(id, timestamp string, body []byte) string {
	signature := make([]byte, 0, len(s.secrets)*48)
	for i, secret := range s.secrets {
		mac := hmac.New(sha256.New, secret)
		_, _ = mac.Write([]byte(id + "." + timestamp + ".")) // a hash takes everything
		_, _ = mac.Write(body)
		if i > 0 {
			signature = append(signature, ' ')
		}
		signature = base64.StdEncoding.AppendEncode(append(signature, "v1,"...), mac.Sum(nil))
	}
	return string(signature)
}
