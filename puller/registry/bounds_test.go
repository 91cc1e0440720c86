package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// The memory of a Client does not grow with the number of registries, repositories and
// tokens that it has seen.
func TestMemoryDoesNotGrowWithTheNumberOfRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		ep := &endpoint{client: c}
		key := func(name string, i int) authKey { return authKey{repository: fmt.Sprint(name, i)} }
		used := key("used", 0)
		c.auth.opened(used, "open")
		const most = 4096
		for i := range 3 * most {
			c.auth.opened(key("repository", i), "basic")
			ep.reject(digest.Digest(fmt.Sprint(i)))
			if i%1000 == 0 {
				r, _ := c.auth.repositories.Get(used)
				require.Equal(t, "open", r.scheme, "a registry that was used lately is remembered")
			}
		}
		assert.Equal(t, most, count(c.auth.repositories.All()))
		_, known := c.auth.repositories.Get(key("repository", 0))
		assert.False(t, known, "the registry that was not used for the longest time is forgotten")
		assert.Equal(t, most, count(c.bad.All()))
		assert.False(t, ep.reject(digest.Digest(fmt.Sprint(3*most-1))), "known")
		assert.True(t, ep.reject(digest.Digest("0")), "forgotten")

		for i := range 3 * maxKept {
			ep := &endpoint{client: c, base: &url.URL{Scheme: "https", Host: "reg.example"}}
			u := &url.URL{Scheme: "https", Host: fmt.Sprint("storage", i)}
			c.targets.keep(ep, request{name: fmt.Sprint(i)}, &answer{left: true, home: ep.base, url: u, keepUntil: time.Now().Add(time.Hour)})
		}
		assert.Equal(t, maxKept, count(c.targets.byKey.All()))

		ep.accepted.Max = maxAccepted
		for i := range 3 * maxAccepted {
			ep.accept(fmt.Sprint(i), noCredential)
		}
		assert.Equal(t, maxAccepted, count(ep.accepted.All()))
	})
}

func count[K, V any](all iter.Seq2[K, V]) (n int) {
	for range all {
		n++
	}
	return n
}

func TestErrorsOfTLSAreRecognized(t *testing.T) {
	for _, err := range []error{
		tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"},
		&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")},
		errors.New("tls: server selected unsupported protocol version 301"),
	} {
		assert.True(t, isTLS(fmt.Errorf("dial: %w", err)) || isTLS(err), "%v", err)
	}
	for _, err := range []error{nil, errors.New("EOF"), &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}} {
		assert.False(t, isTLS(err), "%v", err)
	}
}

func TestEachStatusHasItsReason(t *testing.T) {
	for status, want := range map[int]content.Reason{
		400: content.ErrStatus, 402: content.ErrStatus, 405: content.ErrStatus, 406: content.ErrStatus, 409: content.ErrStatus,
		412: content.ErrStatus, 418: content.ErrStatus, 451: content.ErrStatus, 401: content.ErrUnauthorized, 403: content.ErrDenied, 404: content.ErrNotFound, 408: content.ErrUnavailable, 410: content.ErrNotFound,
		416: content.ErrRange, 429: content.ErrRateLimited, 499: content.ErrStatus, 500: content.ErrUnavailable, 503: content.ErrUnavailable, 304: content.ErrStatus,
	} {
		assert.Equal(t, want, reasonOfStatus(&statusError{status: status}), status)
		assert.Equal(t, status, fail(want, "r.example", &statusError{status: status}).Status)
	}
}

// A directory in Docker's form has an authority and a client certificate with its key.
func TestReadHostsReadsDockersCertificates(t *testing.T) {
	ca := realtest.NewCA(t)
	_, certFile, keyFile := ca.Issue(t, "client", "client")
	files := map[string]string{}
	for name, from := range map[string]string{"ca.crt": ca.File, "client.cert": certFile, "client.key": keyFile} {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		files["reg.example/"+name] = string(data)
	}
	hosts, err := ReadHosts(t.Context(), certsDir(t, files), "reg.example")
	require.NoError(t, err)
	assert.NotNil(t, hosts.Server.RootCAs)
	assert.Len(t, hosts.Server.Certificates, 1)
	delete(files, "reg.example/client.key")
	_, err = ReadHosts(t.Context(), certsDir(t, files), "reg.example")
	assert.Error(t, err, "a certificate without its key")
}

// A mirror that does not accept the connection costs the pull its dial_timeout.
func TestAMirrorCostsAtMostItsDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{
			Registries: map[string]Hosts{"reg.example": {Mirrors: []Host{{URL: "https://m.example", DialTimeout: 200 * time.Millisecond}}}},
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				if addr == "m.example:443" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, forbidden("the registry was asked")
			},
		})
		began := time.Now()
		_, err := c.Manifest(t.Context(), content.Repo{Ref: mustRef("reg.example/app"), Cred: noCredential}, "")
		assert.ErrorIs(t, err, content.ErrForbiddenURL)
		assert.Equal(t, 200*time.Millisecond, time.Since(began))
	})
}

// A brokenKeyring yields an error and then one credential.
type brokenKeyring struct{}

func (brokenKeyring) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		if yield(credentials.Credential{}, errors.New("a helper is broken")) {
			yield(credentials.Credential{Username: "u", Password: credentials.Conceal("mirror-pass")}, nil)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

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

// The client requests no action other than pull for the repository, for every scope that
// a challenge may name.
func TestNoMoreThanThePullActionIsRequested(t *testing.T) {
	for in, want := range map[string][]string{
		"":                                   {"repository:app:pull"},
		"repository:app:pull,push":           {"repository:app:pull"},
		"repository:app:*":                   {"repository:app:pull"},
		"repository:h:5000/app:pull,*":       {"repository:h:5000/app:pull"},
		"aws a:pull,push registry:catalog:*": {"aws", "a:pull,push", "registry:catalog:*"},
	} {
		assert.Equal(t, want, scopes(in, "app"), in)
	}
	c := newClient(t, Config{Registries: map[string]Hosts{"docker.io": {Mirrors: []Host{{URL: "https://h.example/v2/hub", OverridePath: true}}}}})
	list, err := listOf(t, c, "docker.io")
	require.NoError(t, err)
	assert.Equal(t, "hub/library/app", list[0].repository("library/app"))
	realm, err := list[0].tokenRequest(authKey{origin: originOf(&url.URL{Scheme: "https", Host: "h.example"}), repository: "library/app"},
		offered("bearer", "realm", "https://h.example/t"), &answer{})
	require.NoError(t, err)
	assert.Equal(t, []string{"repository:hub/library/app:pull"}, realm.scopes)
}
