package credentials

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// A pluginConfig is the configuration of one exec credential provider plugin, as a
// CredentialProviderConfig has it.
type pluginConfig struct {
	// Name is the name of the program in the directory of plugins.
	Name string
	// APIVersion is the version of requests and answers:
	// credentialprovider.kubelet.k8s.io/v1, /v1beta1 or /v1alpha1.
	APIVersion string
	// MatchImages are keys for the images for which the plugin is asked; see [Match].
	MatchImages []string
	// DefaultCacheDuration is how long an answer without its own cacheDuration is kept.
	// Zero means that such an answer is not kept.
	DefaultCacheDuration time.Duration
	Args                 []string
	Env                  []envVar // added to the environment of Exec; of equal names these count
	// Token says which service-account token the plugin receives; nil means none.
	Token *tokenAttributes
}

// tokenAttributes say which service-account token a plugin receives.
type tokenAttributes struct {
	Audience  string
	CacheType tokenCacheType
	// RequireServiceAccount means that the plugin is not asked for Pods without a
	// service account.
	RequireServiceAccount bool
	// RequiredAnnotations are the annotations of the service account that the plugin
	// receives. If one of them is missing, the plugin is not asked.
	RequiredAnnotations []string
	// OptionalAnnotations are the annotations that the plugin receives if the service
	// account has them.
	OptionalAnnotations []string
}

// A tokenCacheType says for which Pods an answer is kept that a plugin gave with a token.
type tokenCacheType string

// The cache types of tokens.
const (
	cacheByToken          tokenCacheType = "Token"          // only for the same token
	cacheByServiceAccount tokenCacheType = "ServiceAccount" // for all Pods with the service account
)

const (
	configGroup   = "kubelet.config.k8s.io/"
	providerGroup = "credentialprovider.kubelet.k8s.io/"
)

// parseProviders reads a CredentialProviderConfig.
func (r Rules) parseProviders(data []byte) ([]pluginConfig, error) {
	providers, err := r.readProviders(data)
	if err != nil {
		return nil, fmt.Errorf("credential provider config: %w", err)
	}
	return providers, nil
}

func (r Rules) readProviders(data []byte) ([]pluginConfig, error) {
	data, err := readDocument(data)
	if err != nil {
		return nil, err
	}
	f := readConfig(data)
	kind, apiVersion := f.string("kind"), f.string("apiVersion")
	version, ok := strings.CutPrefix(apiVersion, configGroup)
	switch {
	case f.err != nil:
		return nil, f.err
	case kind != "CredentialProviderConfig":
		return nil, fmt.Errorf("kind is %s, not CredentialProviderConfig", quote(kind))
	case !ok || !isVersion(version):
		return nil, fmt.Errorf("apiVersion is %s, not %sv1, v1beta1 or v1alpha1", quote(apiVersion), configGroup)
	}
	items := f.list("providers")
	if err := f.done(); err != nil {
		return nil, err
	}
	var providers []pluginConfig
	for i, item := range items {
		p, err := readProvider(item, version)
		if err != nil {
			return nil, fmt.Errorf("provider %d (%s): %w", i+1, quote(p.Name), err)
		}
		providers = append(providers, p)
	}
	return providers, r.validate(providers)
}

func isVersion(s string) bool { return s == "v1" || s == "v1beta1" || s == "v1alpha1" }

func readProvider(data []byte, version string) (pluginConfig, error) {
	f := readConfig(data)
	p := pluginConfig{
		Name: f.string("name"), APIVersion: f.string("apiVersion"),
		MatchImages: f.strings("matchImages"), Args: f.strings("args"),
	}
	if d := f.duration("defaultCacheDuration"); d != nil {
		p.DefaultCacheDuration = *d
	} else {
		f.fail(errors.New("defaultCacheDuration is missing"))
	}
	for _, item := range f.list("env") {
		v := readConfig(item)
		p.Env = append(p.Env, envVar{v.string("name"), Conceal(v.string("value"))})
		if err := v.done(); err != nil {
			f.fail(fmt.Errorf("env: %w", err))
		}
	}
	if version == "v1" {
		if value, ok := f.take("tokenAttributes"); ok {
			token, err := readToken(value)
			if err != nil {
				f.fail(fmt.Errorf("tokenAttributes: %w", err))
			}
			p.Token = &token
		}
	}
	return p, f.done()
}

func readToken(data []byte) (tokenAttributes, error) {
	f := readConfig(data)
	t := tokenAttributes{
		Audience:            f.string("serviceAccountTokenAudience"),
		CacheType:           tokenCacheType(f.string("cacheType")),
		RequiredAnnotations: f.strings("requiredServiceAccountAnnotationKeys"),
		OptionalAnnotations: f.strings("optionalServiceAccountAnnotationKeys"),
	}
	if require := f.bool("requireServiceAccount"); require != nil {
		t.RequireServiceAccount = *require
	} else {
		f.fail(errors.New("requireServiceAccount is missing"))
	}
	return t, f.done()
}

// readProviderFiles reads one config file, or all config files of a directory in the order
// of their names.
func (r Rules) readProviderFiles(path string) ([]pluginConfig, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, named(err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = configFiles(path); err != nil {
			return nil, err
		}
	}
	var all []pluginConfig
	for _, file := range files {
		data, _, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", quote(file), err)
		}
		providers, err := r.parseProviders(data)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", quote(file), err)
		}
		all = append(all, providers...)
	}
	return all, r.validate(all)
}

func configFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".json", ".yaml", ".yml":
			if !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("directory %s holds no .json, .yaml or .yml file", quote(dir))
	}
	return files, nil
}

// validate checks the rules that the kubelet checks for a provider config. It also refuses
// the names of programs that are not file names on each system.
func (r Rules) validate(providers []pluginConfig) error {
	if len(providers) == 0 {
		return errors.New("names no provider")
	}
	seen := map[string]bool{}
	for _, p := range providers {
		if seen[p.Name] {
			return fmt.Errorf("provider %s: is there twice", quote(p.Name))
		}
		seen[p.Name] = true
		if err := r.validateProvider(p); err != nil {
			return fmt.Errorf("provider %s: %w", quote(p.Name), err)
		}
	}
	return nil
}

func (r Rules) validateProvider(p pluginConfig) error {
	if err := r.checkProgramName(p.Name); err != nil {
		return err
	}
	if version, ok := strings.CutPrefix(p.APIVersion, providerGroup); !ok || !isVersion(version) {
		return fmt.Errorf("apiVersion is %s, not %sv1, v1beta1 or v1alpha1", quote(p.APIVersion), providerGroup)
	}
	if len(p.MatchImages) == 0 {
		return errors.New("matchImages is empty")
	}
	for _, key := range p.MatchImages {
		if _, err := r.compile(key); err != nil {
			return fmt.Errorf("matchImages: %w", &Error{Origin: Origin{Key: keys.Redact(key)}, Err: err})
		}
		if strings.Contains(key, "://") && !r.Kubelet {
			return fmt.Errorf("matchImages: %w", &Error{Origin: Origin{Key: keys.Redact(key)}, Err: errors.New("has a scheme")})
		}
	}
	if p.DefaultCacheDuration < 0 {
		return errors.New("defaultCacheDuration is negative")
	}
	for _, v := range p.Env {
		if v.name == "" && !r.Kubelet || strings.ContainsAny(v.name, "=\x00") || strings.Contains(v.value.Reveal(), "\x00") {
			return errors.New("env: a variable that no process can have")
		}
	}
	if p.Token == nil {
		return nil
	}
	if p.APIVersion != providerGroup+"v1" {
		return errors.New("tokenAttributes need apiVersion " + providerGroup + "v1")
	}
	if err := p.Token.validate(); err != nil {
		return fmt.Errorf("tokenAttributes: %w", err)
	}
	return nil
}

func (r Rules) checkProgramName(name string) error {
	switch {
	case strings.Contains(name, "/"):
		return errors.New("name holds a slash")
	case strings.Contains(name, " "):
		return errors.New("name holds a space")
	case name == "." || name == "..":
		return errors.New("name is that of a directory")
	case r.Kubelet:
		return nil
	case name == "":
		return errors.New("name is empty")
	case strings.ContainsAny(name, `\:`) || strings.ContainsFunc(name, keys.IsControl):
		return errors.New("name holds a character that file names cannot have on each system")
	}
	return nil
}

func (t tokenAttributes) validate() error {
	switch {
	case t.Audience == "":
		return errors.New("serviceAccountTokenAudience is missing")
	case t.CacheType != cacheByToken && t.CacheType != cacheByServiceAccount:
		return fmt.Errorf("cacheType is %s, not Token or ServiceAccount", quote(string(t.CacheType)))
	case !t.RequireServiceAccount && len(t.RequiredAnnotations) > 0:
		return errors.New("requiredServiceAccountAnnotationKeys need requireServiceAccount")
	}
	keys := slices.Concat(t.RequiredAnnotations, t.OptionalAnnotations)
	for i, key := range keys {
		if !isQualifiedName(key) {
			return fmt.Errorf("%s is not an annotation key", quote(key))
		}
		if slices.Contains(keys[:i], key) {
			return fmt.Errorf("annotation key %s is there twice", quote(key))
		}
	}
	return nil
}

// isQualifiedName reports whether s is an annotation key: a name, or a DNS name, a slash and
// a name. The name has at most 63 letters, digits and the characters -_. but begins and ends
// with a letter or digit. Case does not matter.
func isQualifiedName(s string) bool {
	prefix, name, ok := strings.Cut(strings.ToLower(s), "/")
	if !ok {
		name = prefix
	} else if len(prefix) > 253 || strings.Contains(name, "/") || !isDNSName(prefix) {
		return false
	}
	return len(name) <= 63 && isWord(name, "-_.")
}

func isDNSName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isWord(label, "-") {
			return false
		}
	}
	return true
}

// isWord reports whether s begins and ends with a letter or digit, and has only letters,
// digits and the characters of inner between them.
func isWord(s, inner string) bool {
	if s == "" || !keys.IsAlnum(s[0]) || !keys.IsAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !keys.IsAlnum(s[i]) && strings.IndexByte(inner, s[i]) < 0 {
			return false
		}
	}
	return true
}
