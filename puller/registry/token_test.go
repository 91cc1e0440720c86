package registry_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

func TestARealmIsTrustedByItsOrigin(t *testing.T) {
	for _, tt := range []struct {
		name, registry, realm string
		plain                 bool
		allow                 func(string, *url.URL) bool
		want                  content.Reason
	}{
		{"own origin", "reg.example", "https://reg.example/token", false, nil, ""},
		{"another host, both https", "reg.example", "https://auth.example/token", false, nil, ""},
		{"another port, both https", "reg.example", "https://reg.example:8443/token", false, nil, ""},
		{"own origin, plain", "reg.example", "http://reg.example/token", true, nil, ""},
		{"https to http", "reg.example", "http://reg.example/token", false, nil, content.ErrForbiddenURL},
		{"plain, another host", "reg.example", "http://auth.example/token", true, nil, content.ErrForbiddenURL},
		{"plain, another host, https", "reg.example", "https://auth.example/token", true, nil, content.ErrForbiddenURL},
		{"plain, another port", "reg.example", "http://reg.example:81/token", true, nil, content.ErrForbiddenURL},
		{"file", "reg.example", "file:///etc/passwd", false, nil, content.ErrForbiddenURL},
		{"no host", "reg.example", "https:///token", false, nil, content.ErrForbiddenURL},
		{"user info", "reg.example", "https://reg.example@evil.example/token", false, nil, content.ErrForbiddenURL},
		{"private address", "reg.example", "https://10.0.0.1/token", false, nil, content.ErrForbiddenURL},
		{"private address of a private registry", "10.0.0.2", "https://10.0.0.1/token", false, nil, ""},
		{"link-local address of a private registry", "10.0.0.2", "https://169.254.169.254/token", false, nil, content.ErrForbiddenURL},
		{"allowed by the caller", "reg.example", "http://auth.example/token", true, allowHost("auth.example"), ""},
		{"allowed by the caller, private", "reg.example", "https://10.0.0.1/token", false, allowHost("10.0.0.1"), ""},
		{"another host is allowed by the caller", "reg.example", "http://auth.example/token", true, allowHost("other.example"), content.ErrForbiddenURL},
		{"only http and https can be allowed", "reg.example", "file://auth.example/token", true, allowHost("auth.example"), content.ErrForbiddenURL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := reference.MustParse(tt.registry + "/app:v1")
			cfg := registry.Config{AllowRealm: tt.allow}
			home := "https://" + ref.Registry()
			if tt.plain {
				home = "http://" + ref.Registry()
				cfg.PlainHTTP = []string{ref.Registry()}
			}
			realm, err := url.Parse(tt.realm)
			require.NoError(t, err)
			token := text(`{"token":"a-token"}`)
			servers := map[string]http.HandlerFunc{realm.Scheme + "://" + realm.Host: token}
			servers[home] = signedIn(`Bearer realm="`+tt.realm+`",service="s"`, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "Bearer a-token", r.Header.Get("Authorization"))
				text(hello)(w, r)
			})
			if realm.Scheme+"://"+realm.Host == home {
				after := servers[home]
				servers[home] = func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/token" {
						token(w, r)
						return
					}
					after(w, r)
				}
			}
			w := newWorld(servers)
			cfg.WrapTransport = instead(w)
			c := newClient(t, cfg)
			_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
			asked := w.asked()
			if tt.want != "" {
				assert.ErrorIs(t, err, tt.want)
				assert.Equal(t, []string{"GET " + home + helloPath}, asked)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "GET "+tt.realm+"?scope=repository%3Aapp%3Apull&service=s Basic", asked[1])
		})
	}
}

func allowHost(host string) func(string, *url.URL) bool {
	return func(_ string, realm *url.URL) bool { return realm.Host == host }
}

// A tokenServer is a registry and its token server. It counts the tokens that it gives. The
// last token is valid until it is taken back.
type tokenServer struct {
	given, posts atomic.Int64
	life         string
	delay        time.Duration
	status       int
	mu           sync.Mutex
	good         string
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		s.mu.Lock()
		ok := s.good != "" && r.Header.Get("Authorization") == "Bearer "+s.good
		s.mu.Unlock()
		if !ok {
			challenge(`Bearer realm="https://reg.example/token",scope="repository:app:pull,push"`)(w, r)
			return
		}
		text(hello)(w, r)
		return
	}
	n := s.given.Add(1)
	if r.Method == http.MethodPost {
		s.posts.Add(1)
	}
	time.Sleep(s.delay)
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	s.mu.Lock()
	s.good = fmt.Sprintf("token-%d", n)
	s.mu.Unlock()
	fmt.Fprintf(w, `{"token":"token-%d"%s}`, n, s.life)
}

func (s *tokenServer) takeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = ""
}

func (s *tokenServer) client() *registry.Client { return s.clientWith(registry.Config{}) }

func (s *tokenServer) clientWith(cfg registry.Config) *registry.Client {
	cfg.WrapTransport = instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": s.ServeHTTP}))
	return mustClient(cfg)
}

func TestOneTokenServesAllCallsOfACredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{delay: 100 * time.Millisecond}
		c := s.client()
		ref := reference.MustParse("reg.example/app:v1")
		many := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
					assert.NoError(t, err)
				})
			}
			wg.Wait()
		}
		many()
		assert.EqualValues(t, 1, s.given.Load(), "one token for all calls")
		s.takeBack()
		many()
		assert.EqualValues(t, 2, s.given.Load(), "one new token for all calls")

		other := robot
		other.Username = "other"
		_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: other}, helloBlob())
		assert.NoError(t, err)
		assert.EqualValues(t, 3, s.given.Load(), "tokens are never shared between credentials")
		labelled := robot
		labelled.Origin.Kind = credentials.KindFile
		_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: labelled}, helloBlob())
		assert.NoError(t, err)
		assert.EqualValues(t, 4, s.given.Load(), "the server gives one token at a time, so the first credential needs a new one; its Origin does not matter")
	})
}

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	for life, want := range map[string]time.Duration{
		``: 54 * time.Second, `,"expires_in":300`: 290 * time.Second, `,"expires_in":-1`: 54 * time.Second, `,"expires_in":"20"`: 18 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &tokenServer{life: life}
			w := newWorld(map[string]http.HandlerFunc{"https://reg.example": s.ServeHTTP})
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			ref := reference.MustParse("reg.example/app:v1")
			get := func() {
				_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
				require.NoError(t, err)
			}
			get()
			time.Sleep(want - time.Millisecond)
			get()
			assert.EqualValues(t, 1, s.given.Load(), "life %q", life)
			w.asked()
			time.Sleep(time.Millisecond)
			get()
			assert.EqualValues(t, 2, s.given.Load(), "life %q", life)
			asked := w.asked()
			assert.Len(t, asked, 2, "the token is renewed before the registry refuses it")
			assert.True(t, strings.HasPrefix(asked[0], "GET https://reg.example/token?scope=repository%3Aapp%3Apull Basic"), "only the pull action is requested: %s", asked[0])
		})
	}
}

// A caller that waits for a token can give up, and the other callers still get the token.
func TestACallerThatGivesUpLeavesTheTokenToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{delay: time.Second}
		c := s.client()
		ref := reference.MustParse("reg.example/app:v1")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := read(ctx, c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
			assert.ErrorIs(t, err, context.Canceled)
			assert.Empty(t, content.ReasonOf(err))
		})
		synctest.Wait()
		wg.Go(func() {
			_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
			assert.NoError(t, err)
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		assert.EqualValues(t, 1, s.given.Load())
	})
}

func TestTheStatusOfATokenServerGivesTheReason(t *testing.T) {
	for status, want := range map[int]struct {
		kind  content.Reason
		asked int64
	}{
		401: {content.ErrUnauthorized, 1}, 403: {content.ErrDenied, 1}, 400: {content.ErrUnauthorized, 1}, 422: {content.ErrUnauthorized, 1},
		500: {content.ErrUnavailable, 4}, 429: {content.ErrRateLimited, 4},
		404: {content.ErrUnauthorized, 2}, 405: {content.ErrUnauthorized, 2}, // GET, then POST
		410: {content.ErrUnauthorized, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &tokenServer{status: status}
			// Three waits after 429 take up to 31.5 s, and a token is waited for twice as long as
			// the StallTimeout.
			c := s.clientWith(registry.Config{StallTimeout: 20 * time.Second})
			_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, helloBlob())
			assert.ErrorIs(t, err, want.kind)
			assert.NotErrorIs(t, err, fs.ErrNotExist, "the registry was not asked whether the image exists")
			assert.Equal(t, want.asked, s.given.Load(), "%d: only the token request is made again", status)
		})
	}
}

// A token server that speaks OAuth 2.0 refuses a credential by 400.
func TestATokenServerRefusesACredentialBy400(t *testing.T) {
	identity := credentials.Credential{IdentityToken: credentials.Conceal("identity-of-robot")}
	for code, want := range map[string]content.Reason{
		"invalid_grant": content.ErrUnauthorized, "invalid_client": content.ErrUnauthorized,
		"invalid_request": content.ErrUnauthorized, "invalid_scope": content.ErrUnauthorized, "INVALID_GRANT": content.ErrUnauthorized,
	} {
		c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{
			"https://reg.example": signedIn(`Bearer realm="https://auth.example/t"`, text(hello)),
			"https://auth.example": func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"error":%q,"error_description":"it was taken back"}`, code)
			},
		}))})
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: identity}, helloBlob())
		assert.Equal(t, want, content.ReasonOf(err), "%v", err)
		assert.ErrorContains(t, err, "400 Bad Request: "+code+": it was taken back")
	}
}

func TestOnlyATokenThatAHeaderCanCarryIsTaken(t *testing.T) {
	for body, want := range map[string]content.Reason{
		`{"access_token":"t"}`:            "",
		`{"token":"t","expires_in":null}`: "",
		`{}`:                              content.ErrUnauthorized,
		`{"token":"a\nb"}`:                content.ErrUnauthorized,
		`{"token":"a","token":"b"}`:       content.ErrUnauthorized,
		`<html>`:                          content.ErrUnauthorized,
		`{"token":"` + strings.Repeat("t", 64<<10) + `"}`:   "",
		`{"token":"` + strings.Repeat("t", 64<<10+1) + `"}`: content.ErrUnauthorized, // because many of them would fill the memory
		`{"token":"` + strings.Repeat("t", 1<<20) + `"}`:    content.ErrTooLarge,
	} {
		c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{
			"https://reg.example":  signedIn(`Bearer realm="https://auth.example/t?a=b"`, text(hello)),
			"https://auth.example": text(body),
		}))})
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, helloBlob())
		assert.Equal(t, want, content.ReasonOf(err), "%.40s: %v", body, err)
	}
}

func TestATokenRequestIsRedirectedOnlyWithinItsOrigin(t *testing.T) {
	for location, want := range map[string]content.Reason{
		"https://auth.example/elsewhere": "",
		"https://evil.example/token":     content.ErrForbiddenURL,
		"https://auth.example:444/token": content.ErrForbiddenURL,
		"http://auth.example/token":      content.ErrForbiddenURL,
		"/token":                         content.ErrRedirect,
	} {
		w := newWorld(map[string]http.HandlerFunc{
			"https://reg.example": signedIn(`Bearer realm="https://auth.example/token"`, text(hello)),
			"https://auth.example": func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/elsewhere" {
					text(`{"token":"t"}`)(w, r)
					return
				}
				redirectTo(location)(w, r)
			},
		})
		_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, helloBlob())
		assert.Equal(t, want, content.ReasonOf(err), "%s: %v", location, err)
		for _, line := range w.asked() {
			assert.NotContains(t, line, "evil.example")
		}
	}
}

// A token server that does not know GET gets the password by POST.
func TestThePasswordIsPostedIfGETIsNotKnown(t *testing.T) {
	var form url.Values
	w := newWorld(map[string]http.HandlerFunc{
		"https://reg.example": signedIn(`Bearer realm="https://auth.example/token",service="s&x=y#f",scope="repository:app:pull&account=admin"`, text(hello)),
		"https://auth.example": func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			assert.NoError(t, r.ParseForm())
			form = r.PostForm
			text(`{"token":"t"}`)(w, r)
		},
	})
	_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, url.Values{"grant_type": {"password"}, "username": {"robot"}, "password": {"s3cret-pass"}, "client_id": {"pullkit"},
		"service": {"s&x=y#f"}, "scope": {"repository:app:pull&account=admin"}}, form)
	assert.Equal(t, []string{
		"GET https://reg.example" + helloPath,
		"GET https://auth.example/token?scope=repository%3Aapp%3Apull%26account%3Dadmin&service=s%26x%3Dy%23f Basic",
		"POST https://auth.example/token",
		"GET https://reg.example" + helloPath + " Bearer",
	}, w.asked())
}

func TestARegistryTokenIsSentAsItIs(t *testing.T) {
	w := newWorld(map[string]http.HandlerFunc{"https://reg.example": signedIn(`Bearer realm="https://reg.example/token"`, text(hello))})
	cred := credentials.Credential{RegistryToken: credentials.Conceal("ready-token")}
	_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: cred}, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, []string{"GET https://reg.example" + helloPath + " Bearer"}, w.asked())

	w = newWorld(map[string]http.HandlerFunc{"https://reg.example": challenge(`Bearer realm="https://reg.example/token"`)})
	_, err = read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: cred}, helloBlob())
	assert.ErrorIs(t, err, content.ErrUnauthorized)
	assert.Len(t, w.asked(), 1)
}
