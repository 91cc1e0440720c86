package realtest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An Issuer is a token server over https whose tokens docker-registry accepts
// (distribution's token specification). It is started by StartIssuer.
type Issuer struct {
	// URL is the realm, the URL of token requests.
	URL string
	// Life is how long tokens are valid. Zero means 5 minutes. It must be set before
	// the first request.
	Life time.Duration

	users    map[string]string
	public   []string
	requests atomic.Int64
	posts    atomic.Int64
	cert     tls.Certificate
}

// The issuer and the audience in an Issuer's tokens, which docker-registry checks.
const (
	issuerName  = "test-issuer"
	serviceName = "test-registry"
)

// StartIssuer starts a token server, which stops at the end of the test. users has
// passwords by user name. A user may pull every repository. A request without a user
// may pull only the public repositories.
func StartIssuer(t testing.TB, ca *CA, users map[string]string, public ...string) *Issuer {
	t.Helper()
	is := &Issuer{users: users, public: public}
	is.cert, _, _ = ca.Issue(t, "issuer", "localhost", "127.0.0.1")
	server := httptest.NewUnstartedServer(is)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // in some tests a client does not trust the CA
	server.TLS = &tls.Config{Certificates: []tls.Certificate{is.cert}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	is.URL = server.URL + "/token"
	return is
}

// Requests returns how many requests the Issuer has received, and how many of them by POST.
func (is *Issuer) Requests() (all, posts int) {
	return int(is.requests.Load()), int(is.posts.Load())
}

func (is *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is.requests.Add(1)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	user, password, known := r.BasicAuth()
	if r.Method == http.MethodPost {
		is.posts.Add(1)
		switch r.Form.Get("grant_type") {
		case "password":
			user, password, known = r.Form.Get("username"), r.Form.Get("password"), true
		case "refresh_token":
			// The identity token of a user is "identity:" followed by the password.
			password, known = strings.CutPrefix(r.Form.Get("refresh_token"), "identity:")
			for name, p := range is.users {
				if p == password {
					user = name
				}
			}
		}
	}
	if good, ok := is.users[user]; known && (!ok || good != password) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`))
		return
	}
	token, err := is.token(r.Form.Get("service"), user, is.grant(r.Form["scope"], known))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": int(is.life().Seconds())})
}

func (is *Issuer) life() time.Duration {
	if is.Life == 0 {
		return 5 * time.Minute
	}
	return is.Life
}

// An access is one right that a token gives. Its JSON form is docker-registry's.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (is *Issuer) grant(scopes []string, known bool) []access {
	granted := []access{}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndexByte(rest, ':') // a name may contain a port
		if i < 0 {
			continue
		}
		if name := rest[:i]; known || slices.Contains(is.public, name) {
			granted = append(granted, access{kind, name, strings.Split(rest[i+1:], ",")})
		}
	}
	return granted
}

// token returns a signed token as docker-registry needs it, with the signing
// certificate in its header.
func (is *Issuer) token(service, user string, granted []access) (string, error) {
	now := time.Now()
	encode := base64.RawURLEncoding.EncodeToString
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256",
		"x5c": []string{base64.StdEncoding.EncodeToString(is.cert.Certificate[0])}})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"iss": issuerName, "aud": service, "sub": user, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix() - 5, "exp": now.Add(is.life()).Unix(), "access": granted})
	if err != nil {
		return "", err
	}
	signed := encode(header) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, is.cert.PrivateKey.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64) // not ASN.1 (RFC 7518, section 3.4)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature), nil
}
