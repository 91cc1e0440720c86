package registry

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A brokenKeyring yields an error and then one credential.
type brokenKeyring struct{}

func (brokenKeyring) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		if yield(credentials.Credential{}, errors.New("a helper is broken")) {
			yield(credentials.Credential{Username: "u", Password: credentials.Conceal("mirror-pass")}, nil)
		}
	}
}

// An error of the keyring does not stop the look-up of a mirror's credential. A mirror
// without a credential is asked anonymously.
func TestAnErrorOfTheMirrorKeyringStopsNoLookUp(t *testing.T) {
	var asked []string
	rt := roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host+" "+r.Header.Get("Authorization"))
		return &http.Response{StatusCode: 401, Header: http.Header{"Www-Authenticate": {"Basic realm=x"}}, Body: http.NoBody}, nil
	})
	hosts := map[string]Hosts{"reg.example": {Mirrors: []Host{{URL: "https://m.example"}}}}
	for _, ring := range []credentials.Keyring{brokenKeyring{}, credentials.Static(nil), nil} {
		asked = nil
		_, err := newClient(t, Config{WrapTransport: instead(rt), Registries: hosts, MirrorKeyring: ring}).Manifest(t.Context(), content.Repo{Ref: mustRef("reg.example/app"), Cred: noCredential}, "")
		assert.ErrorIs(t, err, content.ErrUnauthorized)
		want := []string{"m.example ", "reg.example "}
		if ring == (brokenKeyring{}) {
			want = []string{"m.example ", "m.example Basic dTptaXJyb3ItcGFzcw==", "reg.example "}
		}
		assert.Equal(t, want, asked)
	}
}

// A countingKeyring counts how often it is asked.
type countingKeyring struct{ asked int }

func (r *countingKeyring) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	r.asked++
	return func(yield func(credentials.Credential, error) bool) {
		_ = yield(credentials.Credential{Username: "wrong", Password: credentials.Conceal("wrong-pass")}, nil) &&
			yield(credentials.Credential{Username: "u", Password: credentials.Conceal("mirror-pass")}, nil)
	}
}

// The keyring is asked once a minute for the credential that opens a mirror, and again
// when the mirror refuses that credential.
func TestTheMirrorKeyringIsAskedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := true
		rt := roundTrip(func(r *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: 401, Header: http.Header{"Www-Authenticate": {"Basic realm=x"}}, Body: http.NoBody}
			if user, _, _ := r.BasicAuth(); user == "u" && open {
				resp.StatusCode = 200
				resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
			}
			return resp, nil
		})
		ring := &countingKeyring{}
		c := newClient(t, Config{WrapTransport: instead(rt), Registries: map[string]Hosts{"reg.example": {Mirrors: []Host{{URL: "https://m.example"}}}}, MirrorKeyring: ring})
		get := func() error {
			_, err := c.Manifest(t.Context(), content.Repo{Ref: mustRef("reg.example/app"), Cred: noCredential}, "")
			return err
		}
		for range 10 {
			require.NoError(t, get())
		}
		assert.Equal(t, 1, ring.asked)
		time.Sleep(acceptedFor)
		require.NoError(t, get())
		assert.Equal(t, 2, ring.asked)
		open = false
		assert.ErrorIs(t, get(), content.ErrUnauthorized)
		assert.Equal(t, 3, ring.asked)
		open = true
		require.NoError(t, get())
		assert.Equal(t, 4, ring.asked)
	})
}
