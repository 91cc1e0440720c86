package pullertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// behave is the well-behaved part of a scripted registry. All its repositories
// hold all objects.
func (s *Stage) behave(listener string, w http.ResponseWriter, req *http.Request, body []byte) {
	if (listener == "port" || listener == "second") && !s.scenario.SecondServes {
		writeError(w, 404, "NAME_UNKNOWN", "nothing is served here", "")
		return
	}
	var auth ScenarioAuth
	if s.scenario.Auth != nil {
		auth = *s.scenario.Auth
	}
	what := parsePath(req.URL.Path)
	if what.kind == kindToken {
		s.giveToken(auth, w, req, body)
		return
	}
	if challenge := s.challenge(auth, listener, req); challenge != "" {
		writeError(w, 401, "UNAUTHORIZED", "authentication required", challenge)
		return
	}
	switch what.kind {
	case kindRoot:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	case kindManifest:
		if m, ok := s.manifest(what.ref); ok {
			serveBlob(w, req, blob{m.mediaType, m.digest, m.data})
			return
		}
		writeError(w, 404, "MANIFEST_UNKNOWN", "manifest unknown", "")
	case kindBlob:
		if m, ok := s.props.find(what.ref); ok {
			serveBlob(w, req, blob{"application/octet-stream", m.digest, m.data})
			return
		}
		writeError(w, 404, "BLOB_UNKNOWN", "blob unknown to registry", "")
	default:
		writeError(w, 404, "UNSUPPORTED", "no such address", "")
	}
}

// manifest finds an object by tag or digest.
func (s *Stage) manifest(ref string) (made, bool) {
	id, ok := s.scenario.Tags[ref]
	if len(s.scenario.Tags) == 0 && ref == "v1" {
		id, ok = "m", true
	}
	if !ok {
		return s.props.find(ref)
	}
	m, ok := s.props.objects[id]
	return m, ok
}

func (s *Stage) giveToken(auth ScenarioAuth, w http.ResponseWriter, req *http.Request, body []byte) {
	user, pass, _ := req.BasicAuth()
	if form, err := url.ParseQuery(string(body)); req.Method == http.MethodPost && err == nil && form.Has("username") {
		user, pass = form.Get("username"), form.Get("password")
	}
	if auth.User != "" && (user != auth.User || pass != auth.Pass) {
		writeError(w, 401, "UNAUTHORIZED", "incorrect username or password", "")
		return
	}
	token := cmp.Or(auth.Token, "tok")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// challenge is what a request without the right credential is told; "" lets it pass.
func (s *Stage) challenge(auth ScenarioAuth, listener string, req *http.Request) string {
	switch auth.Mode {
	case "basic":
		user, pass, ok := req.BasicAuth()
		if ok && user == auth.User && pass == auth.Pass {
			return ""
		}
		return `Basic realm="hostile"`
	case "bearer":
		if req.Header.Get("Authorization") == "Bearer "+auth.Token {
			return ""
		}
		scheme := "http"
		if listener == "tls" {
			scheme = "https"
		}
		realm := s.Fill(cmp.Or(auth.Realm, scheme+"://{{"+listener+"}}/token"))
		return fmt.Sprintf(`Bearer realm="%s",service="hostile",scope="repository:team/app:pull"`, realm)
	}
	return ""
}
