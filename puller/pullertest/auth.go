package pullertest

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/fakeregistry"
)

// An AuthMode says how clients authenticate to a registry.
type AuthMode string

// The modes.
const (
	AuthNone   AuthMode = ""       // any client may pull
	AuthBasic  AuthMode = "basic"  // user and password with each request
	AuthBearer AuthMode = "bearer" // a token from the registry's own /token
)

// A User may pull from a registry. The user with an empty Name is the anonymous user: the
// repositories that the anonymous user may pull need no password. With AuthBearer they
// need a token, which /token gives to any client, as Docker Hub does.
type User struct {
	Name, Password string
	// IdentityToken, if not empty, is a refresh token that POST /token takes in place
	// of the password.
	IdentityToken string
	// Repositories are those that the user may pull; nil means all.
	Repositories []string
}

func (u User) may(repository string) bool {
	return u.Repositories == nil || repository == "" || slices.Contains(u.Repositories, repository)
}

// user returns the user of this name and password; the empty name is the anonymous user.
func (r *Registry) user(name, password string) (User, bool) {
	for _, u := range r.conf.Users {
		if u.Name == name && same(u.Password, password) {
			return u, true
		}
	}
	return User{}, false
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// A refusal is the answer to a request that is not allowed; the zero refusal allows it.
type refusal struct {
	status    int
	code      string
	message   string
	challenge string
}

// admit decides whether req may read the repository; "" is the root of the API.
func (r *Registry) admit(req *http.Request, repository string) refusal {
	switch r.conf.Auth {
	case AuthBasic:
		return r.admitBasic(req, repository)
	case AuthBearer:
		return r.admitBearer(req, repository)
	}
	return refusal{}
}

func (r *Registry) admitBasic(req *http.Request, repository string) refusal {
	if anyone, ok := r.user("", ""); ok && anyone.may(repository) {
		return refusal{}
	}
	name, password, _ := req.BasicAuth()
	u, ok := r.user(name, password)
	if !ok || name == "" {
		return refusal{401, "UNAUTHORIZED", "authentication required", `Basic realm="pullertest"`}
	}
	if !u.may(repository) {
		return refusal{403, "DENIED", "requested access to the resource is denied", ""}
	}
	return refusal{}
}

func (r *Registry) admitBearer(req *http.Request, repository string) refusal {
	challenge := fmt.Sprintf(`Bearer realm="%s/token",service="pullertest"`, r.URL())
	if repository != "" {
		challenge += fmt.Sprintf(`,scope="repository:%s:pull"`, repository)
	}
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return refusal{401, "UNAUTHORIZED", "authentication required", challenge}
	}
	if !r.tokens.good(token) {
		return refusal{401, "UNAUTHORIZED", "the token is unknown or has expired", challenge + `,error="invalid_token"`}
	}
	if !r.tokens.opens(token, repository) {
		return refusal{401, "UNAUTHORIZED", "the token does not give this access", challenge + `,error="insufficient_scope"`}
	}
	return refusal{}
}

// serveToken answers the token endpoint: GET with or without Basic, and POST as in OAuth2,
// with a password or a refresh token.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	req.Body = http.MaxBytesReader(w, req.Body, 1<<20)
	if err := req.ParseForm(); err != nil {
		fakeregistry.WriteError(w, 400, "UNSUPPORTED", "the form does not parse", "")
		return
	}
	u, ok := r.tokenUser(req)
	if !ok {
		fakeregistry.WriteError(w, 401, "UNAUTHORIZED", "incorrect username or password", "")
		return
	}
	var repositories []string
	for _, scopes := range req.Form["scope"] {
		for _, scope := range strings.Fields(scopes) {
			if name, actions, ok := cutScope(scope); ok && u.may(name) && slices.Contains(strings.Split(actions, ","), "pull") {
				repositories = append(repositories, name)
			}
		}
	}
	life := r.conf.TokenLife
	if life <= 0 {
		life = 5 * time.Minute
	}
	token := r.tokens.issue(repositories, life)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token":        token,
		"access_token": token,
		"expires_in":   int64(math.Ceil(life.Seconds())),
		"issued_at":    time.Now().UTC().Format(time.RFC3339),
	})
}

// tokenUser returns the user that asks for a token.
func (r *Registry) tokenUser(req *http.Request) (User, bool) {
	if req.Method == http.MethodPost {
		if req.PostForm.Get("grant_type") == "refresh_token" {
			given := req.PostForm.Get("refresh_token")
			i := slices.IndexFunc(r.conf.Users, func(u User) bool {
				return u.IdentityToken != "" && same(u.IdentityToken, given)
			})
			if i < 0 {
				return User{}, false
			}
			return r.conf.Users[i], true
		}
		return r.user(req.PostForm.Get("username"), req.PostForm.Get("password"))
	}
	name, password, ok := req.BasicAuth()
	if ok && name == "" {
		return User{}, false
	}
	return r.user(name, password)
}

// cutScope splits repository:NAME:ACTIONS.
func cutScope(scope string) (name, actions string, ok bool) {
	rest, ok := strings.CutPrefix(scope, "repository:")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

// ExpireTokens ends all tokens that the registry has issued so far.
func (r *Registry) ExpireTokens() { r.tokens.expireAll() }

// tokens are the bearer tokens that the registry has issued.
type tokens struct {
	mu    sync.Mutex
	given map[string]grant
}

type grant struct {
	repositories []string
	until        time.Time
}

func (t *tokens) issue(repositories []string, life time.Duration) string {
	token := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.given == nil {
		t.given = map[string]grant{}
	}
	t.given[token] = grant{repositories, time.Now().Add(life)}
	return token
}

func (t *tokens) good(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.given[token]
	return ok && time.Now().Before(g.until)
}

func (t *tokens) opens(token, repository string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return repository == "" || slices.Contains(t.given[token].repositories, repository)
}

func (t *tokens) expireAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.given = nil
}
