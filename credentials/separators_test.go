package credentials

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestSecretsAreReadOrNamedWithAnySeparator holds that each Secret of a manifest is read,
// or the error says that it was not, for many separators between the documents.
func TestSecretsAreReadOrNamedWithAnySeparator(t *testing.T) {
	block := func(name string) string { return "kind: Secret\nmetadata:\n  name: " + name + "\n" }
	inJSON := func(name string) string { return fmt.Sprintf(`{"kind":"Secret","metadata":{"name":%q}}`, name) }
	flow := func(name string) string { return "{kind: Secret, metadata: {name: " + name + "}}" }
	for text, want := range map[string]struct {
		names []string
		err   string
	}{
		block("a") + "---\n" + block("b"):                                               {[]string{"a", "b"}, ""},
		block("a") + "...\n" + block("b"):                                               {[]string{"a", "b"}, ""},
		block("a") + "... # end\n" + block("b"):                                         {[]string{"a", "b"}, ""},
		"kind: Secret\rmetadata:\r  name: a\r---\rkind: Secret\rmetadata:\r  name: b\r": {[]string{"a", "b"}, ""},
		"%YAML 1.2\n---\n" + block("a"):                                                 {[]string{"a"}, ""},
		inJSON("a") + "\n" + inJSON("b"):                                                {[]string{"a", "b"}, ""},
		"# x\n\n" + inJSON("a") + "\n" + inJSON("b"):                                    {[]string{"a", "b"}, ""},
		flow("a"):                                {[]string{"a"}, ""},
		flow("a") + "\n# the end":                {[]string{"a"}, ""},
		flow("a") + "\n" + flow("b"):             {[]string{"a", "b"}, ""},
		"# x\n" + flow("a") + "\n" + inJSON("b"): {[]string{"a", "b"}, ""},
		`{"kind":"Secret","metadata":{"name":"a"},}` + "\n" + inJSON("b"):                 {[]string{"a", "b"}, ""},
		"kind: Secret\nmetadata:\n  labels:\n    name: web\n  name: a\ntype: {{ .T }}x\n": {nil, `secret "a" is not YAML`},
	} {
		secrets, err := ParseSecrets([]byte(text))
		var names []string
		for _, s := range secrets {
			names = append(names, s.Name)
		}
		assert.Equal(t, want.names, names, "%q", text)
		if want.err == "" {
			assert.NoError(t, err, "%q", text)
		} else {
			assert.ErrorContains(t, err, want.err, "%q", text)
		}
	}
}
