package registry_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
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

// byMethod answers HEAD by one handler and GET by another.
func byMethod(head, get http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			head(w, r)
			return
		}
		get(w, r)
	}
}

func reason(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, text)
	}
}

// An image comes from a registry that refuses HEAD. If GET is refused too, the error has the
// registry's reason.
func TestImagesComeFromRegistriesThatRefuseHEAD(t *testing.T) {
	for _, tt := range fieldCases[struct {
		ID     string
		Status int
		Reason bool
		Want   struct{ Second, Contains string }
	}](t, "head.json", 4) {
		get := http.HandlerFunc(serveAll)
		if tt.Reason {
			get = reason(tt.Status, "Your authorization token has expired. Reauthenticate and try again.")
		}
		w := newWorld(map[string]http.HandlerFunc{"https://r.example": byMethod(status(tt.Status), get)})
		doc, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("r.example/team/app:v1"), Cred: robot}, digestOf("another"))
		assert.Equal(t, tt.Want.Second == "ok", err == nil, "%s: %v", tt.ID, err)
		if err == nil {
			assert.NotEmpty(t, doc.Body, tt.ID)
		} else {
			assert.ErrorContains(t, err, tt.Want.Contains, tt.ID)
		}
		assert.Len(t, w.asked(), 2, tt.ID)
	}
}

// One GET follows every refusal of a HEAD, except 429. The answer to the GET counts.
func TestOneGETFollowsARefusedHEAD(t *testing.T) {
	ref := reference.MustParse("r.example/app:v1")
	for _, tt := range []struct {
		name      string
		head, get http.HandlerFunc
		want      content.Reason
		methods   []string
	}{
		{"412", status(412), serveAll, "", []string{"HEAD", "GET"}},
		{"410", status(410), serveAll, "", []string{"HEAD", "GET"}},
		{"401 without a challenge", status(401), serveAll, "", []string{"HEAD", "GET"}},
		{"401 that cannot be met", challenge("Negotiate"), serveAll, "", []string{"HEAD", "GET"}},
		{"451, then 403", status(451), reason(403, "because"), content.ErrDenied, []string{"HEAD", "GET"}},
		{"404, then 429", status(404), status(429, "Retry-After", "3600"), content.ErrRateLimited, []string{"HEAD", "GET"}},
		{"429", status(429, "Retry-After", "3600"), serveAll, content.ErrRateLimited, []string{"HEAD"}},
		{"405, then 403", status(405), reason(403, "because"), content.ErrDenied, []string{"HEAD", "GET"}},
		{"503 that lasts", status(503), serveAll, "", []string{"HEAD", "HEAD", "HEAD", "HEAD", "GET"}},
		{"503 that lasts, and GET as well", status(503), reason(503, "because"), content.ErrUnavailable, []string{"HEAD", "HEAD", "HEAD", "HEAD", "GET"}},
		{"503 that asks to wait", status(503, "Retry-After", "2"), serveAll, "", []string{"HEAD", "HEAD", "HEAD", "HEAD", "GET"}},
		{"503 that asks to wait too long", status(503, "Retry-After", "7200"), serveAll, content.ErrUnavailable, []string{"HEAD"}},
		{"403, then 503 that ends", status(403), failFirst(503, serveAll), "", []string{"HEAD", "GET", "GET"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(map[string]http.HandlerFunc{"https://r.example": byMethod(tt.head, tt.get)})
			start := time.Now()
			_, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, digestOf("another"))
			assert.Equal(t, tt.want, content.ReasonOf(err), "%s: %v", tt.name, err)
			assert.Equal(t, tt.methods, methods(w), tt.name)
			if tt.name == "503 that asks to wait" {
				assert.Equal(t, 8*time.Second, time.Since(start), "the wait is also kept before the GET")
			}
		})
	}
}

// failFirst refuses the first request with code, and answers the others by then.
func failFirst(code int, then http.HandlerFunc) http.HandlerFunc {
	first := true
	return func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			w.WriteHeader(code)
			return
		}
		then(w, r)
	}
}

func methods(w *world) []string {
	var list []string
	for _, line := range w.asked() {
		list = append(list, strings.Fields(line)[0])
	}
	return list
}

// The HEAD is sent to the mirrors and then to the registry. The GET follows only if all
// of them refuse the HEAD.
func TestHEADIsSentToAllHostsBeforeGET(t *testing.T) {
	ref := reference.MustParse("r.example/app:v1")
	same := byMethod(status(200, "Docker-Content-Digest", string(digestOf(manifestText)), "Content-Type", indexType), serveAll)
	noHead := byMethod(status(404), serveAll)
	for _, tt := range []struct {
		name               string
		one, two, registry http.HandlerFunc
		want               content.Reason
		asked              []string
	}{
		{"the registry knows", noHead, status(503), same, "", []string{"HEAD one", "HEAD two", "HEAD r"}},
		{"all hosts refuse HEAD", noHead, noHead, noHead, "", []string{"HEAD one", "HEAD two", "HEAD r", "GET one"}},
		{"only the registry serves", status(404), status(403), noHead, "", []string{"HEAD one", "HEAD two", "HEAD r", "GET one", "GET two", "GET r"}},
		{"the registry is limited", status(404), noHead, status(429, "Retry-After", "7200"), "", []string{"HEAD one", "HEAD two", "HEAD r", "GET one", "GET two"}},
		{"all hosts limit requests", status(429), status(429), status(429, "Retry-After", "7200"), content.ErrRateLimited, []string{"HEAD one", "HEAD two", "HEAD r"}},
		{"a mirror without HEAD at all", byMethod(status(405), status(500)), status(404), noHead, "", []string{"HEAD one", "GET one", "HEAD two", "HEAD r", "GET two", "GET r"}},
		{"a mirror that cannot be reached", nil, status(404), noHead, "", []string{"HEAD one", "HEAD two", "HEAD r", "GET two", "GET r"}},
	} {
		w := newWorld(map[string]http.HandlerFunc{"https://r.example": tt.registry, "https://two.example": tt.two})
		if tt.one != nil {
			w.servers["https://one.example"] = tt.one
		}
		c := newClient(t, registry.Config{WrapTransport: instead(w), Retries: -1, Registries: map[string]registry.Hosts{
			"r.example": {Mirrors: []registry.Host{{URL: "https://one.example"}, {URL: "https://two.example"}}}}})
		_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, digestOf(manifestText))
		assert.Equal(t, tt.want, content.ReasonOf(err), "%s: %v", tt.name, err)
		var asked []string
		for _, line := range w.asked() {
			f := strings.Fields(line)
			host, _, _ := strings.Cut(strings.TrimPrefix(f[1], "https://"), ".")
			asked = append(asked, f[0]+" "+host)
		}
		assert.Equal(t, tt.asked, asked, tt.name)
	}
}

// A password that was refused with the HEAD is not sent again with a GET.
func TestAPasswordRefusedWithHEADIsNotSentWithGET(t *testing.T) {
	ref := reference.MustParse("r.example/app:v1")
	var headRefused *content.Error
	const path = " https://r.example/v2/app/manifests/v1"

	w := newWorld(map[string]http.HandlerFunc{"https://r.example": challenge("Basic realm=x")})
	_, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, digestOf("x"))
	require.ErrorAs(t, err, &headRefused)
	assert.True(t, headRefused.HeadRefused)
	assert.ErrorIs(t, err, content.ErrUnauthorized)
	assert.Equal(t, []string{"HEAD" + path, "HEAD" + path + " Basic"}, w.asked())

	// Without a password the GET follows.
	_, err = newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, digestOf("x"))
	require.ErrorAs(t, err, &headRefused)
	assert.False(t, headRefused.HeadRefused)
	assert.Equal(t, []string{"HEAD" + path, "GET" + path}, w.asked())

	// The password is accepted, but the user may not read this image.
	w = newWorld(map[string]http.HandlerFunc{"https://r.example": signedIn("Basic realm=x", byMethod(status(403), reason(403, "not for robots")))})
	_, err = newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, digestOf("x"))
	assert.ErrorContains(t, err, "not for robots")
	assert.Equal(t, []string{"HEAD" + path, "HEAD" + path + " Basic", "GET" + path + " Basic"}, w.asked())

	// The token server refuses the password, and its answer has a reason.
	posts := 0
	w = newWorld(map[string]http.HandlerFunc{
		"https://a.example": func(w http.ResponseWriter, r *http.Request) {
			posts++
			reason(401, "wrong password")(w, r)
		},
		"https://r.example": challenge(`Bearer realm="https://a.example/t"`),
	})
	_, err = newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, digestOf("x"))
	assert.ErrorContains(t, err, "wrong password")
	require.ErrorAs(t, err, &headRefused)
	assert.False(t, headRefused.HeadRefused, "a GET would not give more reasons")
	assert.Equal(t, 1, posts)

	// GET is sent to a mirror, because the mirror did not get the wrong password.
	w = newWorld(map[string]http.HandlerFunc{
		"https://m.example": byMethod(status(404), serveAll),
		"https://r.example": challenge("Basic realm=x"),
	})
	c := newClient(t, registry.Config{WrapTransport: instead(w), Registries: map[string]registry.Hosts{"r.example": {Mirrors: []registry.Host{{URL: "https://m.example"}}}}})
	_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, digestOf("x"))
	assert.NoError(t, err)
	assert.Equal(t, 1, countBasic(w.asked()))
}

func countBasic(asked []string) int {
	return len(slices.DeleteFunc(asked, func(line string) bool { return !strings.HasSuffix(line, " Basic") }))
}

// A GET after a refused HEAD uses the token that was fetched for the HEAD, and does not
// fetch another token.
func TestGETUsesTheTokenOfTheHEAD(t *testing.T) {
	ref := reference.MustParse("r.example/app:v1")
	for _, code := range []int{400, 401, 403, 404} {
		for _, cred := range []credentials.Credential{robot, noCredential} {
			for _, kept := range []bool{false, true} {
				f := &fickleRegistry{serve: text(manifestText), refuse: byMethod(challengeWith(code, `Bearer realm="https://r.example/token"`), reason(code, "because"))}
				c, w := f.client()
				if kept {
					_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: cred}, "")
					require.NoError(t, err)
					w.asked()
				}
				f.end("none")
				_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: cred}, digestOf("x"))
				assert.ErrorContains(t, err, "because", "%d, kept %v", code, kept)
				want := []string{"HEAD", "GET", "HEAD", "GET"} // HEAD, token, HEAD; GET
				if kept && code == 404 {
					want = []string{"HEAD", "GET"}
				}
				assert.Equal(t, want, methods(w), "%d, kept %v", code, kept)
			}
		}
	}
}
