package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// The user of repositories whose names begin with private. The others need no user.
const (
	user     = "bench"
	password = "bench"
	private  = "private"
)

// tokenLife is longer than any pull.
const tokenLife = time.Hour

// An issuer is the token server of a registry. It remembers which repositories each token opens.
type issuer struct {
	realm   string // URL of token requests
	counter *counter

	mu     sync.Mutex
	tokens map[string][]string // repositories that may be pulled, by token
}

// ServeHTTP answers a request for a token, by GET with Basic or by POST with a form.
func (is *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	var asked []string
	for _, scope := range strings.Fields(strings.Join(r.Form["scope"], " ")) {
		if parts := strings.Split(scope, ":"); len(parts) == 3 && parts[0] == "repository" {
			asked = append(asked, parts[1])
		}
	}
	is.counter.asked(r.Method+" token", strings.Join(asked, " "))
	name, secret, _ := r.BasicAuth()
	if r.Method == http.MethodPost {
		name, secret = r.Form.Get("username"), r.Form.Get("password")
	}
	known := name == user && secret == password
	if name != "" && !known {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	token := rand.Text()
	is.mu.Lock()
	is.tokens[token] = slices.DeleteFunc(asked, func(repository string) bool {
		return !known && strings.HasPrefix(repository, private)
	})
	is.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "access_token": token, "expires_in": int(tokenLife.Seconds()), "issued_at": time.Now().UTC().Format(time.RFC3339),
	})
}

// admits reports whether a request has a token for its repository. If repository is "", any
// token will do.
func (is *issuer) admits(r *http.Request, repository string) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return false
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	repositories, ok := is.tokens[token]
	return ok && (repository == "" || slices.Contains(repositories, repository))
}

// refuse answers 401, with a challenge that names the issuer.
func (is *issuer) refuse(w http.ResponseWriter, repository string) {
	challenge := fmt.Sprintf(`Bearer realm=%q,service="bench"`, is.realm)
	if repository != "" {
		challenge += fmt.Sprintf(`,scope="repository:%s:pull"`, repository)
	}
	w.Header().Set("WWW-Authenticate", challenge)
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
}
