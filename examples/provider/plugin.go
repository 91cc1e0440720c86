package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	pluginName = "demo-credential-provider"
	demoToken  = "a-token-of-web/builder"
	// maxRequest is the longest request that the plugin reads, in bytes. A request has an
	// image's name, a token and annotations.
	maxRequest = 1 << 20
)

// plugin is a complete exec credential provider: it reads one CredentialProviderRequest and
// writes one CredentialProviderResponse. If it fails, the text on its standard error goes
// to the node's log.
func plugin(in io.Reader, out io.Writer) error {
	var request struct {
		APIVersion          string `json:"apiVersion"`
		Kind                string `json:"kind"`
		Image               string `json:"image"`
		ServiceAccountToken string `json:"serviceAccountToken"`
	}
	if err := json.NewDecoder(io.LimitReader(in, maxRequest)).Decode(&request); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if request.Kind != "CredentialProviderRequest" {
		return errors.New("request: not a CredentialProviderRequest")
	}
	if request.ServiceAccountToken == "" {
		return errors.New("request: no token of a service account")
	}
	host, _, _ := strings.Cut(request.Image, "/")
	return json.NewEncoder(out).Encode(map[string]any{
		"apiVersion":    request.APIVersion,
		"kind":          "CredentialProviderResponse",
		"cacheKeyType":  "Registry", // the answer is for all images of this registry
		"cacheDuration": "5m",
		"auth": map[string]any{
			host: map[string]string{"username": "token-user", "password": passwordFor(request.ServiceAccountToken)},
		},
	})
}

// passwordFor takes the place of a cloud's API, which exchanges the token for a password.
func passwordFor(token string) string { return "password-for-" + token }

// copySelf installs this program under another name.
func copySelf(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		path += filepath.Ext(self)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o700)
}
