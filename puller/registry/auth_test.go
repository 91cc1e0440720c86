package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// fieldCases reads the cases of a file of testdata/vectors/field.
func fieldCases[T any](t *testing.T, file string, count int) []T {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/field/" + file)
	require.NoError(t, err)
	var doc struct{ Cases []T }
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, count)
	return doc.Cases
}

// The parts of a challenge that choose which server gets a secret are read strictly, and
// all other parts as far as possible.
func TestOnlyWhatChoosesAServerIsReadStrictly(t *testing.T) {
	type scene struct {
		ID      string
		Headers []string
		Anon    bool
		Want    struct{ Outcome string }
	}
	cases := fieldCases[scene](t, "challenges.json", 13)
	for _, p := range fieldCases[struct {
		ID    string
		Input struct {
			Header string `json:"www_authenticate"`
		}
	}](t, "peers-auth.json", 4) {
		if p.Input.Header != "" {
			cases = append(cases, scene{p.ID, []string{p.Input.Header}, false, struct{ Outcome string }{"ok"}})
		}
	}
	const good = `Bearer realm="https://{HOST}/v2/token"`
	for headers, want := range map[string]string{
		"Basic realm=": "ok", "Basic": "ok", "basic": "ok", "BASIC realm=my realm, charset=UTF-8": "ok", `Basic realm="a" x`: "ok",
		`Basic realm="é` + "\xff": "ok", "Basic realm='Sonatype Nexus'": "ok", "Basic realm=a=b": "ok",
		"Digest realm=x y, Basic realm=/": "ok", "Negotiate\nNTLM\nBasic realm=/": "ok",
		"Basic realm=/, " + good:                                                    "ok",
		"Basic realm=/\n" + good:                                                    "ok",
		good + ",service=a b:c/d?e=f,scope=*":                                       "ok",
		good + `,error_description="a\é\b"`:                                         "ok",
		good + `,service="x" scope="y"`:                                             "ok",
		good + `,error_description=a "b" c`:                                         "ok",
		`"Bearer" realm="https://{HOST}/t"`:                                         "error",
		"@\nBasic realm=x":                                                          "ok",
		`Bearer realm="/v2/token"`:                                                  "error",
		"Bearer realm=\"Registry\"\nBasic":                                          "ok",
		good + `,realm=x` + "\nBasic realm=x":                                       "error",
		good + ` realm="x"` + "\nBasic realm=x":                                     "error",
		"Basic realm=x\n" + good + `,REALM="https://{HOST}/v2/token"`:               "error",
		`Bearer realm="http://{AUTH}/t"` + "\nBasic realm=x":                        "error",
		`Bearer realm="https://bob@{AUTH}/t"` + "\nBasic realm=x":                   "error",
		`Bearer realm="file:///etc/passwd"` + "\nBasic realm=x":                     "error",
		`Bearer realm=https://{HOST}/v2/token, Basic realm=x`:                       "error",
		`Basic realm=x, Bearer realm=https://{HOST}/v2/token`:                       "ok",
		`Bearer realm="https://{HOST}/v2/\token"`:                                   "error",
		good + "\nBearer realm=\"http://{AUTH}/t\"":                                 "ok",
		"Bearer realm=\"http://{AUTH}/t\"\n" + good:                                 "error",
		`Bearer realm="https://{AUTH}/t",service="x, realm="https://evil.example/"`: "ok",
		`Basic realm="unterminated, Bearer realm="https://evil.example/"`:           "ok",
		`Basic realm="x", Bearer service="y, realm="https://evil.example/"`:         "ok",
	} {
		cases = append(cases, scene{headers, strings.Split(headers, "\n"), false, struct{ Outcome string }{want}})
	}
	for _, tt := range cases {
		var headers []string
		for _, h := range tt.Headers {
			headers = append(headers, strings.NewReplacer("{HOST}", "r.example:5000", "{AUTH}", "a.example:5000").Replace(h))
		}
		w := newWorld(map[string]http.HandlerFunc{
			"https://a.example:5000": text(`{"token":"t"}`),
			"https://r.example:5000": func(w http.ResponseWriter, r *http.Request) {
				user, password, _ := r.BasicAuth()
				switch {
				case r.URL.Path == "/v2/token":
					text(`{"token":"t"}`)(w, r)
				case r.Header.Get("Authorization") == "Bearer t", user == "robot" && password == "s3cret-pass":
					text(`{"config":{}}`)(w, r)
				default:
					w.Header()["Www-Authenticate"] = headers
					w.WriteHeader(http.StatusUnauthorized)
				}
			},
		})
		cred := robot
		if tt.Anon {
			cred = noCredential
		}
		_, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("r.example:5000/team/app:v1"), Cred: cred}, "")
		if tt.Want.Outcome == "ok" {
			assert.NoError(t, err, "%s", tt.ID)
		} else {
			assert.Error(t, err, "%s", tt.ID)
		}
		for _, line := range w.asked() {
			assert.False(t, strings.Contains(line, "evil.example") || strings.HasPrefix(line, "GET http:"), "%s: %s", tt.ID, line)
		}
	}
}

// A fickleRegistry is a registry with a token server. The test ends its tokens, and sets
// its answer to a token that was ended (refuse).
type fickleRegistry struct {
	mu      sync.Mutex
	good    string
	given   int
	noToken bool // the token server refuses
	refuse  http.HandlerFunc
	serve   http.HandlerFunc
}

func (f *fickleRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch auth := r.Header.Get("Authorization"); {
	case r.URL.Path == "/token" && f.noToken:
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/token":
		f.given++
		if f.good != "none" {
			f.good = fmt.Sprintf("Bearer token-%d", f.given)
		}
		fmt.Fprintf(w, `{"token":"token-%d","expires_in":3600}`, f.given)
	case auth == "":
		challenge(`Bearer realm="https://r.example/token"`)(w, r)
	case auth == f.good:
		f.serve(w, r)
	default:
		f.refuse(w, r)
	}
}

func (f *fickleRegistry) client() (*registry.Client, *world) { return f.clientWith(registry.Config{}) }

func (f *fickleRegistry) clientWith(cfg registry.Config) (*registry.Client, *world) {
	w := newWorld(map[string]http.HandlerFunc{"https://r.example": f.ServeHTTP})
	cfg.WrapTransport = instead(w)
	return mustClient(cfg), w
}

// end ends the token that is valid now. With "none" no new token is valid either.
func (f *fickleRegistry) end(good string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.good = good
}

func (f *fickleRegistry) tokens() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.given
}

// A kept token that is refused is thrown away. One new token is fetched, and the request is
// made again.
func TestAKeptTokenThatIsRefusedIsReplaced(t *testing.T) {
	for _, tt := range fieldCases[struct {
		ID        string
		Status    int
		Challenge bool
		Body      string
		Want      struct{ Tokens int }
	}](t, "stale-token.json", 3) {
		f := &fickleRegistry{serve: text(`{"config":{}}`), refuse: func(w http.ResponseWriter, r *http.Request) {
			if tt.Challenge {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://r.example/token"`)
			}
			w.WriteHeader(tt.Status)
			fmt.Fprint(w, tt.Body)
		}}
		c, _ := f.client()
		ref := reference.MustParse("r.example/team/app:v1")
		for i := range 3 {
			_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
			assert.NoError(t, err, "%s, pull %d", tt.ID, i)
			if i == 0 {
				f.end("")
			}
		}
		assert.Equal(t, tt.Want.Tokens, f.tokens(), tt.ID)
	}
}

// If the new token is refused too, or there is no new token, the error says that a kept token
// was refused before.
func TestTheErrorSaysThatAKeptTokenWasRefused(t *testing.T) {
	const get = "GET https://r.example" + helloPath
	const token = "GET https://r.example/token?scope=repository%3Aapp%3Apull Basic"
	ref := reference.MustParse("r.example/app:v1")
	for _, status := range []int{400, 401, 403} {
		f := &fickleRegistry{serve: text(hello), refuse: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"your token has expired"}]}`)
		}}
		c, w := f.client()
		get1 := func() error {
			_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
			return err
		}
		require.NoError(t, get1())
		assert.Equal(t, []string{get, token, get + " Bearer"}, w.asked())
		f.end("")
		assert.NoError(t, get1(), "%d: a blob", status)
		assert.Equal(t, []string{get + " Bearer", token, get + " Bearer"}, w.asked(), "%d", status)

		f.end("none")
		err := get1()
		assert.ErrorContains(t, err, fmt.Sprintf("after a kept token was refused (%d %s)", status, http.StatusText(status)))
		assert.ErrorContains(t, err, "your token has expired")
		assert.Equal(t, []string{get + " Bearer", token, get + " Bearer"}, w.asked(), "%d: one new token", status)

		f.end("")
		require.NoError(t, get1())
		f.end("")
		f.noToken = true
		err = get1()
		assert.ErrorIs(t, err, content.ErrDenied, "%d", status)
		assert.ErrorContains(t, err, "after a kept token was refused")
		assert.ErrorContains(t, err, "no token")
		w.asked()
		f.noToken = false
		assert.NoError(t, get1(), "%d: a token that was refused is not kept", status)
	}
	// The refusal of a fresh token counts against the credential.
	f := &fickleRegistry{good: "none", refuse: status(403)}
	c, w := f.client()
	_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	assert.ErrorIs(t, err, content.ErrDenied)
	assert.NotContains(t, err.Error(), "kept")
	assert.Equal(t, []string{get, token, get + " Bearer"}, w.asked())
	// An answer with another status does not refuse the token.
	for _, code := range []int{404, 410, 412, 500} {
		f := &fickleRegistry{serve: text(hello), refuse: status(code)}
		c, w := f.clientWith(registry.Config{Retries: -1})
		_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
		require.NoError(t, err)
		f.end("")
		w.asked()
		_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
		assert.Error(t, err)
		assert.Equal(t, []string{get + " Bearer"}, w.asked(), "%d", code)
	}
}

// A kept token stays if the storage host after a redirect refuses the request.
func TestAKeptTokenStaysIfAStorageHostRefuses(t *testing.T) {
	var broken atomic.Bool
	f := &fickleRegistry{serve: redirectTo("https://storage.example/x")}
	c, w := f.client()
	w.servers["https://storage.example"] = func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		text(hello)(w, r)
	}
	ref := reference.MustParse("r.example/app:v1")
	_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	require.NoError(t, err)
	broken.Store(true)
	_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	assert.ErrorIs(t, err, content.ErrDenied)
	assert.NotContains(t, err.Error(), "kept token")
	assert.Equal(t, 1, f.tokens())
}

// One new token serves all calls whose kept token was refused.
func TestOneNewTokenReplacesAKeptTokenForAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fickleRegistry{serve: text(hello), refuse: status(403)}
		c, _ := f.client()
		ref := reference.MustParse("r.example/app:v1")
		for round := 1; round <= 3; round++ {
			var wg sync.WaitGroup
			for range 30 {
				wg.Go(func() {
					_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
					assert.NoError(t, err)
				})
			}
			wg.Wait()
			assert.Equal(t, round, f.tokens())
			f.end("")
		}
	})
}

// After a redirect to another origin the credential is not sent, and the error says so.
func TestNoCredentialIsSentWhereARedirectLeads(t *testing.T) {
	for _, cred := range []credentials.Credential{robot, noCredential} {
		w := newWorld(map[string]http.HandlerFunc{
			"https://vanity.example": redirectTo("https://r.example" + helloPath),
			"https://r.example":      challenge(`Bearer realm="https://r.example/token"`),
		})
		_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("vanity.example/app:v1"), Cred: cred}, helloBlob())
		assert.ErrorIs(t, err, content.ErrUnauthorized)
		assert.ErrorContains(t, err, `the credential was not sent and no token was requested, because a redirect led away from "vanity.example"`)
		assert.Len(t, w.asked(), 2)
	}
}

// An identity token is sent by POST. If the token server does not know POST, it gets the
// password of the same entry by GET.
func TestThePasswordFollowsAnIdentityTokenThatCannotBePosted(t *testing.T) {
	identity := credentials.Credential{IdentityToken: credentials.Conceal("identity-of-robot")}
	both := robot
	both.IdentityToken = identity.IdentityToken
	for _, tt := range []struct {
		cred   credentials.Credential
		status int
		want   content.Reason
		asked  []string
	}{
		{both, 404, "", []string{"POST", "GET"}},
		{both, 405, "", []string{"POST", "GET"}},
		{both, 401, content.ErrUnauthorized, []string{"POST"}},
		{both, 403, content.ErrDenied, []string{"POST"}},
		{both, 400, content.ErrUnauthorized, []string{"POST"}},
		{identity, 404, content.ErrUnauthorized, []string{"POST"}},
		{identity, 405, content.ErrUnauthorized, []string{"POST"}},
	} {
		var asked []string
		w := newWorld(map[string]http.HandlerFunc{
			"https://r.example": signedIn(`Bearer realm="https://a.example/t"`, text(hello)),
			"https://a.example": func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Method)
				if r.Method == http.MethodPost {
					w.WriteHeader(tt.status)
					return
				}
				user, password, _ := r.BasicAuth()
				assert.Equal(t, "robot s3cret-pass", user+" "+password)
				text(`{"token":"t"}`)(w, r)
			},
		})
		_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("r.example/app:v1"), Cred: tt.cred}, helloBlob())
		assert.Equal(t, tt.want, content.ReasonOf(err), "%d: %v", tt.status, err)
		assert.NotErrorIs(t, err, fs.ErrNotExist)
		assert.Equal(t, tt.asked, asked)
	}
}

// One more token is requested if the registry answers that the token lacks a scope, and a
// pull may request that scope.
func TestAScopeThatATokenLacksIsRequestedOnce(t *testing.T) {
	for _, tt := range []struct {
		first, missed string
		status        int
		tokens        []string
		ok            bool
	}{
		{"repository:other:pull", "repository:app:pull", 401, []string{"repository:other:pull", "repository:app:pull"}, true},
		{"repository:other:pull", "repository:app:pull,push", 401, []string{"repository:other:pull", "repository:app:pull"}, true},
		{"repository:other:pull", "repository:app:pull", 403, []string{"repository:other:pull", "repository:app:pull"}, true},
		{"", "*", 401, []string{"repository:app:pull", "*"}, true},
		{"", "repository:app:pull *", 401, []string{"repository:app:pull", "repository:app:pull *"}, true},
		{"", "repository:other:pull", 401, []string{"repository:app:pull"}, false},
		{"", "repository:app:push", 401, []string{"repository:app:pull"}, false},
		{"", "repository:app:delete", 403, []string{"repository:app:pull"}, false},
		{"", "registry:catalog:*", 401, []string{"repository:app:pull"}, false},
		{"", "* registry:catalog:*", 401, []string{"repository:app:pull"}, false},
		{"", "", 401, []string{"repository:app:pull"}, false},
		{"", "repository:app:pull", 401, []string{"repository:app:pull"}, false}, // the token has this scope already
	} {
		var tokens []string
		w := newWorld(map[string]http.HandlerFunc{
			"https://a.example": func(w http.ResponseWriter, r *http.Request) {
				tokens = append(tokens, strings.Join(r.URL.Query()["scope"], " "))
				fmt.Fprintf(w, `{"token":"token-%d"}`, len(tokens))
			},
			"https://r.example": func(w http.ResponseWriter, r *http.Request) {
				switch auth := r.Header.Get("Authorization"); {
				case auth == "":
					challenge(`Bearer realm="https://a.example/t",scope="`+tt.first+`"`)(w, r)
				case auth == "Bearer token-2":
					text(hello)(w, r)
				default:
					w.Header().Set("WWW-Authenticate", `Bearer realm="https://a.example/t",error="insufficient_scope",scope="`+tt.missed+`"`)
					w.WriteHeader(tt.status)
				}
			},
		})
		_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("r.example/app:v1"), Cred: robot}, helloBlob())
		assert.Equal(t, tt.ok, err == nil, "%+v: %v", tt, err)
		assert.Equal(t, tt.tokens, tokens, "%+v", tt)
	}
}

// TestTwentyRepositoriesCostOneRefusal counts what 20 private repositories of one registry cost:
// one refusal in all, a token for each, and their content.
func TestTwentyRepositoriesCostOneRefusal(t *testing.T) {
	for _, tt := range []struct {
		auth     pullertest.AuthMode
		parallel int
		most     int
	}{
		{pullertest.AuthBearer, 1, 62}, {pullertest.AuthBasic, 1, 42},
		// If several pulls start at the same time, the registry may challenge each of
		// them. The memory does not add requests.
		{pullertest.AuthBearer, 4, 81}, {pullertest.AuthBasic, 20, 61},
	} {
		reg, _, _ := start(t, pullertest.Config{Auth: tt.auth})
		var tr trace
		c := newClient(t, registry.Config{PlainHTTP: []string{reg.Host()}, Logger: tr.logger()})
		var wg sync.WaitGroup
		slots := make(chan struct{}, tt.parallel)
		for i := range 20 {
			name := fmt.Sprintf("team/app%d:v1", i)
			put, err := reg.PutImage(name, pullertest.ImageSpec{Layers: []int64{1000 + int64(i)}})
			require.NoError(t, err)
			blobs := put.Blobs[:1] // all images have the same layer, which is fetched once
			if i == 0 {
				blobs = put.Blobs
			}
			slots <- struct{}{}
			wg.Go(func() {
				assert.NoError(t, pull(t.Context(), c, content.Repo{Ref: reference.MustParse(reg.Host() + "/" + name), Cred: robot}, blobs))
				<-slots
			})
		}
		wg.Wait()
		requests := tr.got()
		assert.LessOrEqual(t, len(requests), tt.most, "%s, %d at a time", tt.auth, tt.parallel)
		refusals := slices.DeleteFunc(requests, func(line string) bool { return !strings.HasSuffix(line, " 401") })
		if tt.parallel == 1 {
			assert.Len(t, refusals, 1, "%s", tt.auth)
		}
		c.CloseIdleConnections()
	}
}

// If what the Client remembers of an origin is wrong for a repository, that costs one
// more request, and no failure.
func TestWrongMemoryCostsOneRequest(t *testing.T) {
	tokens := func(good string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.RawQuery, good) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			text(`{"token":"t"}`)(w, r)
		}
	}
	private := signedIn(`Bearer realm="https://a.example/t"`, text(hello))
	openOnly := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				challengeWith(code, `Bearer realm="https://a.example/t"`)(w, r)
				return
			}
			text(hello)(w, r)
		}
	}
	basicOnly := func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "robot" {
			challenge("Basic realm=x")(w, r)
			return
		}
		text(hello)(w, r)
	}
	const first, blob, token = "https://r.example/v2/one/blobs/", "https://r.example/v2/two/blobs/", "https://a.example/t?"
	for _, tt := range []struct {
		name     string
		one, two http.HandlerFunc
		tokens   http.HandlerFunc
		asked    []string // of the second repository
	}{
		{"the same", private, private, tokens(""), []string{token, blob}},
		{"open, refuses by 400", private, openOnly(400), tokens(""), []string{token, blob, blob}},
		{"open, refuses by 401", private, openOnly(401), tokens(""), []string{token, blob, blob}},
		{"open, refuses by 403", private, openOnly(403), tokens(""), []string{token, blob, blob}},
		{"open, without a token", private, text(hello), tokens("one"), []string{token, blob}},
		{"another realm", private, signedIn(`Bearer realm="https://other.example/t"`, text(hello)), tokens("one"),
			[]string{token, blob, "https://other.example/t?", blob}},
		{"another service", private, signedIn(`Bearer realm="https://a.example/t",service="two"`, text(hello)), tokens("one|service"),
			[]string{token, blob, token, blob}},
		{"Basic", private, basicOnly, tokens(""), []string{token, blob, blob}},
		{"Bearer after Basic", basicOnly, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer t" {
				challenge(`Bearer realm="https://a.example/t"`)(w, r)
				return
			}
			text(hello)(w, r)
		}, tokens(""), []string{blob, token, blob}},
		{"open after Basic", basicOnly, openOnly(403), tokens(""), []string{blob, blob}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "another service" {
				tt.tokens = func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.RawQuery, "two") && !strings.Contains(r.URL.RawQuery, "service=two") {
						w.WriteHeader(http.StatusForbidden)
						return
					}
					text(`{"token":"t"}`)(w, r)
				}
			}
			w := newWorld(map[string]http.HandlerFunc{
				"https://a.example":     tt.tokens,
				"https://other.example": text(`{"token":"t"}`),
				"https://r.example": func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.Path, "/one/") {
						tt.one(w, r)
						return
					}
					tt.two(w, r)
				},
			})
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/one:v1"), Cred: robot}, helloBlob())
			require.NoError(t, err)
			w.asked()
			for range 2 {
				_, err = read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/two:v1"), Cred: robot}, helloBlob())
				require.NoError(t, err)
				var got []string
				for _, line := range w.asked() {
					u, err := url.Parse(strings.Fields(line)[1])
					require.NoError(t, err)
					got = append(got, "https://"+u.Host+strings.TrimSuffix(u.Path, string(helloBlob().Digest))+map[bool]string{true: "?"}[u.RawQuery != ""])
				}
				assert.Equal(t, tt.asked, got)
				tt.asked = []string{blob} // the second time the client knows what the repository needs
			}
		})
	}
}

func challengeWith(code int, header string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", header)
		w.WriteHeader(code)
	}
}

// If the Client knows what the origin requests, it sends the password to the token server
// before the registry asks for a token. If the token server refuses the password, the
// Client does not send it a second time.
func TestACredentialThatIsRefusedEarlyIsSentOnce(t *testing.T) {
	var shown atomic.Int64
	w := newWorld(map[string]http.HandlerFunc{
		"https://a.example": func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.RawQuery, "two") {
				shown.Add(1)
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprint(w, `{"error":"wrong password"}`)
				return
			}
			text(`{"token":"t"}`)(w, r)
		},
		"https://r.example": signedIn(`Bearer realm="https://a.example/t"`, text(hello)),
	})
	c := newClient(t, registry.Config{WrapTransport: instead(w)})
	_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/one:v1"), Cred: robot}, helloBlob())
	require.NoError(t, err)
	w.asked()
	_, err = read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/two:v1"), Cred: robot}, helloBlob())
	assert.ErrorIs(t, err, content.ErrUnauthorized)
	assert.ErrorContains(t, err, "no token")
	assert.ErrorContains(t, err, "wrong password")
	assert.Len(t, w.asked(), 2)
	assert.EqualValues(t, 1, shown.Load(), "the password was sent once")
}

// If the Client knows what the origin requests, it requests a token before the registry
// asks for one. If that request fails, the Client makes it again after the registry's
// challenge.
func TestAnEarlyTokenRequestThatFailsIsMadeAgain(t *testing.T) {
	for name, fails := range map[string]func(http.ResponseWriter){
		"503":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"500":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"429":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"too long": func(w http.ResponseWriter) { fmt.Fprint(w, strings.Repeat(" ", 2<<20)) },
		"cut":      nil,
	} {
		for _, callers := range []int{1, 8} {
			t.Run(fmt.Sprint(name, " ", callers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var failed atomic.Bool
					w := newWorld(map[string]http.HandlerFunc{
						"https://a.example": func(w http.ResponseWriter, r *http.Request) {
							if strings.Contains(r.URL.RawQuery, "two") && !failed.Swap(true) {
								fails(w)
								return
							}
							text(`{"token":"t"}`)(w, r)
						},
						"https://r.example": signedIn(`Bearer realm="https://a.example/t"`, text(hello)),
					})
					rt := roundTripper(func(r *http.Request) (*http.Response, error) {
						if fails == nil && strings.Contains(r.URL.RawQuery, "two") && !failed.Swap(true) {
							return nil, io.ErrUnexpectedEOF
						}
						return w.RoundTrip(r)
					})
					c := newClient(t, registry.Config{WrapTransport: instead(rt)})
					get := func(name string) error {
						_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/" + name), Cred: robot}, helloBlob())
						return err
					}
					require.NoError(t, get("one"))
					var all sync.WaitGroup
					for range callers {
						all.Go(func() { assert.NoError(t, get("two")) })
					}
					all.Wait()
					assert.True(t, failed.Load())
				})
			})
		}
	}
}

// AllowRealm is called at each use of a remembered token server.
func TestAllowRealmIsAskedAtEachUseOfARealm(t *testing.T) {
	var allowed atomic.Bool
	allowed.Store(true)
	var asked atomic.Int64
	w := newWorld(map[string]http.HandlerFunc{
		"http://a.example":  text(`{"token":"t","expires_in":3600}`),
		"https://r.example": signedIn(`Bearer realm="http://a.example/t"`, text(hello)),
	})
	c := newClient(t, registry.Config{WrapTransport: instead(w), AllowRealm: func(string, *url.URL) bool {
		asked.Add(1)
		return allowed.Load()
	}})
	get := func(name string) error {
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/" + name), Cred: robot}, helloBlob())
		return err
	}
	require.NoError(t, get("one"))
	require.NoError(t, get("two"))
	assert.EqualValues(t, 2, asked.Load())
	allowed.Store(false)
	w.asked()
	assert.ErrorIs(t, get("three"), content.ErrForbiddenURL)
	for _, line := range w.asked() {
		assert.NotContains(t, line, "a.example/t")
	}
	assert.NoError(t, get("two"), "its token is kept")
}

// Requests wait for the first answer of a registry, which shows how to authenticate, but only
// for a time. Here the registry answers only when all ten requests have arrived.
func TestRequestsDoNotWaitForTheFirstAnswerForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		all.Add(10)
		w := newWorld(map[string]http.HandlerFunc{"https://r.example": func(w http.ResponseWriter, r *http.Request) {
			all.Done()
			all.Wait()
			text(hello)(w, r)
		}})
		c := newClient(t, registry.Config{WrapTransport: instead(w)})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/app:v1"), Cred: robot}, helloBlob())
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	})
}
