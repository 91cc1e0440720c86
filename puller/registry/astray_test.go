package registry_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// The test pulls through random webs of redirects and challenges. It has the rule in its own
// code, separate from the client's. A password goes only to the registry's own origin and,
// if that origin is https, to https token servers that the registry has named. A token goes
// only to the registry's own origin. Neither is ever in an error or a log. PULLKIT_GRAPHS is
// the number of webs.
func TestNoSecretGoesAstray(t *testing.T) {
	graphs := rounds.Of(3000)
	if n, err := strconv.Atoi(os.Getenv("PULLKIT_GRAPHS")); err == nil {
		graphs = n
	}
	for from := 0; from < graphs; from += 1000 {
		synctest.Test(t, func(t *testing.T) {
			for seed := from; seed < min(from+1000, graphs); seed++ {
				(&web{r: rand.New(rand.NewPCG(uint64(seed), 1)), t: t, seed: seed}).run()
			}
		})
	}
}

const (
	canaryPassword = "CANARY-password"
	canaryIdentity = "CANARY-identity"
	canaryToken    = "CANARY-token-"
)

// A web is a set of servers whose answers are random, but repeatable.
type web struct {
	t       *testing.T
	r       *rand.Rand
	seed    int
	home    string
	origins []string
	named   []string // realms that home named in a challenge
	left    int      // how many answers are random; later ones are good, so that each pull ends
}

func (w *web) run() {
	registryHost := "reg.example"
	plain := w.r.IntN(3) == 0
	w.home = "https://" + registryHost
	if plain {
		w.home = "http://" + registryHost
	}
	w.origins = []string{w.home, w.home, "https://reg.example", "http://reg.example", "https://reg.example:8443", "https://sub.reg.example",
		"https://evil.example", "http://evil.example", "https://reg.example.evil.example", "https://10.0.0.1"}
	w.left = 3 + w.r.IntN(20)
	var log strings.Builder
	cfg := registry.Config{WrapTransport: instead(w), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if plain {
		cfg.PlainHTTP = []string{registryHost}
	}
	c := newClient(w.t, cfg)
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal(canaryPassword)}
	if w.r.IntN(4) == 0 {
		cred = credentials.Credential{IdentityToken: credentials.Conceal(canaryIdentity)}
	}
	ref := reference.MustParse(registryHost + "/app:v1")
	said := "" // the texts of all errors
	for range 3 {
		if _, err := c.Manifest(w.t.Context(), content.Repo{Ref: ref, Cred: cred}, ""); err != nil {
			said += err.Error()
		}
		if _, err := read(w.t.Context(), c, content.Repo{Ref: ref, Cred: cred}, helloBlob()); err != nil {
			said += err.Error()
		}
	}
	for _, secret := range w.secrets() {
		require.NotContains(w.t, said, secret, "seed %d: in an error", w.seed)
		require.NotContains(w.t, log.String(), secret, "seed %d: in the log", w.seed)
	}
}

func (w *web) secrets() []string {
	return []string{canaryPassword, canaryIdentity, canaryToken, base64.StdEncoding.EncodeToString([]byte("robot:" + canaryPassword))}
}

// RoundTrip checks what the request carries and answers at random.
func (w *web) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := strings.ToLower(req.URL.Scheme + "://" + req.URL.Host)
	w.check(origin, req)
	w.left--
	resp := &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, Request: req}
	body := hello
	switch choice := w.r.IntN(10); {
	case req.URL.Path == "/token" && choice < 8:
		body = `{"token":"` + canaryToken + strconv.Itoa(w.r.IntN(1000)) + `","expires_in":` + strconv.Itoa(w.r.IntN(100)) + `}`
	case w.left < 0:
	case choice < 4:
		resp.StatusCode = []int{301, 302, 303, 307, 308}[w.r.IntN(5)]
		resp.Header.Set("Location", w.place()+[]string{"/x", "/token", helloPath}[w.r.IntN(3)])
	case choice < 8:
		resp.StatusCode = 401
		realm := w.place() + "/token"
		if origin == w.home {
			w.named = append(w.named, strings.TrimSuffix(strings.ToLower(realm), "/token"))
		}
		resp.Header.Set("WWW-Authenticate", []string{"Basic realm=x", `Bearer realm="` + realm + `",service="s"`, `Basic realm="x", Bearer realm="` + realm + `"`}[w.r.IntN(3)])
		body = `{"errors":[{"code":"UNAUTHORIZED","message":"you sent ` + w.echo(req) + `"}]}`
	case choice < 9:
		resp.StatusCode = []int{403, 404, 400, 500, 429}[w.r.IntN(5)]
		body = `{"errors":[{"code":"DENIED","message":"you sent ` + w.echo(req) + `"}]}`
	}
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	return resp, nil
}

func (w *web) place() string { return w.origins[w.r.IntN(len(w.origins))] }

func (w *web) echo(req *http.Request) string {
	return strings.ReplaceAll(fmt.Sprint(req.Header["Authorization"]), `"`, "")
}

// check checks a request against the rule.
func (w *web) check(origin string, req *http.Request) {
	carried := req.URL.String() + fmt.Sprint(req.Header)
	if user, password, ok := req.BasicAuth(); ok {
		carried += user + password
	}
	if req.Body != nil {
		form, err := io.ReadAll(req.Body)
		require.NoError(w.t, err)
		carried += string(form)
	}
	home := origin == w.home
	tokenServer := home || strings.HasPrefix(w.home, "https:") && strings.HasPrefix(origin, "https:") && slices.Contains(w.named, origin)
	if strings.Contains(carried, canaryPassword) || strings.Contains(carried, canaryIdentity) {
		require.True(w.t, tokenServer, "seed %d: a password went to %s, home is %s", w.seed, origin, w.home)
	}
	if strings.Contains(carried, canaryIdentity) {
		require.Equal(w.t, "/token", req.URL.Path, "seed %d: an identity token went to the registry", w.seed)
	}
	if strings.Contains(carried, canaryToken) {
		require.True(w.t, home, "seed %d: a token went to %s, home is %s", w.seed, origin, w.home)
	}
}
