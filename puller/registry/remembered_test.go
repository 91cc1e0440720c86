package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// What the Client remembers of an origin is wrong for the origin's second repository,
// which needs a token of another token server, a password or nothing. The second
// repository refuses the Authorization that was chosen early, with one of several
// statuses. The blob arrives in each case.
func TestWrongMemoryCausesNoFailure(t *testing.T) {
	token := func(name string) http.HandlerFunc { return text(`{"token":"` + name + `"}`) }
	bearerOf := func(name string) string { return `Bearer realm="https://` + name + `.example/t"` }
	opens := map[string]string{"token": "Bearer t2", "password": "Basic ", "nothing": ""}
	for first, header := range map[string]string{"token": bearerOf("t1"), "password": "Basic realm=x"} {
		for second, opened := range opens {
			for _, status := range []int{400, 401, 403, 404, 405, 410, 422, 451, 500} {
				for _, challenged := range []bool{false, true} {
					if first == "password" && second == "password" {
						continue
					}
					w := newWorld(map[string]http.HandlerFunc{
						"https://t1.example": token("t1"), "https://t2.example": token("t2"),
						"https://r.example": func(w http.ResponseWriter, r *http.Request) {
							auth := r.Header.Get("Authorization")
							if strings.HasPrefix(r.URL.Path, "/v2/one/") {
								if auth == "" {
									challenge(header)(w, r)
									return
								}
								text(hello)(w, r)
								return
							}
							want := map[string]string{"token": bearerOf("t2"), "password": "Basic realm=x"}[second]
							switch {
							case opened == "" && auth == "", opened != "" && strings.HasPrefix(auth, opened):
								text(hello)(w, r)
							case auth == "":
								challenge(want)(w, r)
							case challenged && want != "":
								challengeWith(status, want)(w, r)
							default:
								w.WriteHeader(status)
							}
						},
					})
					c := newClient(t, registry.Config{WrapTransport: instead(w)})
					name := fmt.Sprintf("%s, then %s, refused by %d, challenged %v", first, second, status, challenged)
					_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/one:v1"), Cred: robot}, helloBlob())
					require.NoError(t, err, name)
					for range 2 {
						_, err = read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/two:v1"), Cred: robot}, helloBlob())
						assert.NoError(t, err, name)
					}
					if t.Failed() {
						t.Fatalf("%s: %q", name, w.asked())
					}
				}
			}
		}
	}
}

// If the image does not exist, the error says so, even if the request was sent with a
// remembered token. The first time that costs one more request.
func TestAnAbsentImageIsAbsentWithARememberedToken(t *testing.T) {
	const realm = `Bearer realm="https://a.example/t"`
	w := newWorld(map[string]http.HandlerFunc{
		"https://a.example": text(`{"token":"t"}`),
		"https://r.example": signedIn(realm, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v2/two/") {
				w.WriteHeader(404)
				return
			}
			text(hello)(w, r)
		}),
	})
	c := newClient(t, registry.Config{WrapTransport: instead(w)})
	_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/one:v1"), Cred: robot}, helloBlob())
	require.NoError(t, err)
	w.asked()
	for _, requests := range []int{3, 1} {
		_, err = read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/two:v1"), Cred: robot}, helloBlob())
		assert.ErrorContains(t, err, "404 Not Found")
		assert.Len(t, w.asked(), requests, "the first time the token, the blob, and the blob without the token; later only the blob")
	}
}

// A repository that needs no token does not wait for the token server of another
// repository.
func TestAPublicRepositoryDoesNotWaitForATokenServer(t *testing.T) {
	down := false
	w := newWorld(map[string]http.HandlerFunc{
		"https://a.example": func(w http.ResponseWriter, r *http.Request) {
			if down {
				w.Header().Set("Retry-After", "2")
				w.WriteHeader(503)
				return
			}
			text(`{"token":"t"}`)(w, r)
		},
		"https://r.example": func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v2/two/") {
				text(hello)(w, r)
				return
			}
			signedIn(`Bearer realm="https://a.example/t"`, text(hello))(w, r)
		},
	})
	c := newClient(t, registry.Config{WrapTransport: instead(w)})
	_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/one:v1"), Cred: robot}, helloBlob())
	require.NoError(t, err)
	down = true
	w.asked()
	_, err = read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/two:v1"), Cred: robot}, helloBlob())
	require.NoError(t, err)
	assert.Len(t, w.asked(), 2, "one request for a token, one for the blob")
}

// TestWrongMemoryIsForgotten: what the Client remembers of an origin is used until it is
// wrong for a repository. After that the Client asks the next repository without it.
func TestWrongMemoryIsForgotten(t *testing.T) {
	const blob, token = "https://r.example/v2/", "https://a.example/t"
	for name, two := range map[string]struct {
		opens  http.HandlerFunc
		tokens int // status of the token server
	}{
		"it needs no token and refuses one": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				w.WriteHeader(403)
				return
			}
			text(hello)(w, r)
		}, 200},
		"the token server refuses":      {text(hello), 403},
		"the token server is not there": {text(hello), 404},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(map[string]http.HandlerFunc{
				"https://a.example": func(w http.ResponseWriter, r *http.Request) {
					if !strings.Contains(r.URL.RawQuery, "one") && two.tokens != 200 {
						w.WriteHeader(two.tokens)
						return
					}
					text(`{"token":"t"}`)(w, r)
				},
				"https://r.example": func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/v2/one/") {
						signedIn(`Bearer realm="https://a.example/t"`, text(hello))(w, r)
						return
					}
					two.opens(w, r)
				},
			})
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			asked := map[string][]string{}
			for _, repository := range []string{"one", "two", "three"} {
				_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/" + repository + ":v1"), Cred: robot}, helloBlob())
				require.NoError(t, err)
				for _, line := range w.asked() {
					asked[repository] = append(asked[repository], strings.Fields(line)[1])
				}
			}
			require.NotEmpty(t, asked["two"])
			assert.True(t, strings.HasPrefix(asked["two"][0], token), "what is remembered is used: %q", asked["two"])
			require.Len(t, asked["three"], 1, "%q", asked["three"])
			assert.True(t, strings.HasPrefix(asked["three"][0], blob), "%q", asked["three"])
		})
	}
}
