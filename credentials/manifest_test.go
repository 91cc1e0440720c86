package credentials

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/stretchr/testify/assert"
)

// readNames are the names of the Secrets that were read of a manifest.
func readNames(secrets []Secret) (names []string) {
	for _, s := range secrets {
		names = append(names, s.Name)
	}
	return names
}

// TestWhatCanBeReadIsRead brings manifests of which a part cannot be read. All Secrets
// but that part are read, and the error names that part as well as can be.
func TestWhatCanBeReadIsRead(t *testing.T) {
	inJSON := func(name string) string {
		return fmt.Sprintf(`{"kind":"Secret","metadata":{"name":%q,"namespace":"web"},"data":{}}`, name)
	}
	pretty := func(name string) string {
		return "{\n  \"kind\": \"Secret\",\n  \"metadata\": {\n    \"name\": \"" + name + "\"\n  }\n}\n"
	}
	const badJSON = `{"kind":"Secret","metadata":{"name":"bad","namespace":"web"},"data":{"x":@}}`
	const list = "apiVersion: v1\nkind: List\nitems:\n"
	item := func(name string) string {
		return "- kind: Secret\n  metadata:\n    name: " + name + "\n    namespace: web\n  data: {}\n"
	}
	indent := func(s string) string {
		return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
	}
	const named = `secret "web/bad"`
	for name, tt := range map[string]struct {
		text string
		read []string
		want string
	}{
		"List, data twice":          {list + item("a") + item("bad") + "  data: {}\n" + item("b"), []string{"a", "b"}, named + " holds a field twice: line 14"},
		"List, name twice":          {list + item("a") + "- kind: Secret\n  metadata:\n    name: x\n    namespace: web\n    name: bad\n" + item("b"), []string{"a", "b"}, named + " holds a field twice: line 13"},
		"List, first item":          {list + item("bad") + "  type: a\n  type: b\n" + item("b"), []string{"b"}, named + " holds a field twice"},
		"List, indented":            {list + indent(item("a")+item("bad")+"  data: {}\n") + indent(item("b")), []string{"a", "b"}, named + " holds a field twice"},
		"List, items first":         {"items:\n" + item("a") + item("bad") + "  data: {}\nkind: List\n", []string{"a"}, named + " holds a field twice"},
		"List, dash alone":          {list + "-\n  kind: Secret\n  metadata: {name: a}\n-\n  kind: Secret\n  metadata: {name: bad, namespace: web}\n  data: 1\n  data: 2\n", []string{"a"}, named + " holds a field twice"},
		"List, other kind":          {list + item("a") + "- kind: ConfigMap\n  data: {}\n  data: {}\n" + item("b"), []string{"a", "b"}, ""},
		"List, template":            {list + item("a") + item("bad") + "  stringData:\n    x: {{ .Values.x }}\n" + item("b"), []string{"a", "b"}, named + " is not YAML: a template was left in it ({{)"},
		"List, a tab":               {list + item("a") + item("bad") + "  stringData:\n\tx: y\n" + item("b"), []string{"a", "b"}, named + " is not YAML"},
		"List in a List":            {list + item("a") + "- kind: List\n  items:\n" + indent(item("c")+item("bad")+"  data: {}\n") + item("b"), []string{"a", "c", "b"}, named + " holds a field twice"},
		"List, comments":            {"# x\n" + list + "# y\n" + item("a") + "  # z\n# w\n" + item("bad") + "  data: {}\n\n" + item("b") + "# end\n", []string{"a", "b"}, named + " holds a field twice"},
		"SecretList":                {"kind: SecretList\nitems:\n- metadata: {name: a}\n- metadata:\n    name: bad\n    namespace: web\n  data: {}\n  data: {}\n", []string{"a"}, named + " holds a field twice"},
		"List in flow style":        {"{kind: List, items: [{kind: Secret, metadata: {name: a}}, {kind: Secret, metadata: {name: bad, namespace: web}, data: {}, data: {}}, {kind: Secret, metadata: {name: b}}]}", []string{"a", "b"}, named + " holds a field twice: line 1"},
		"items in flow style":       {"kind: List\nitems: [{kind: Secret, metadata: {name: a}},\n  {kind: Secret, metadata: {name: bad, namespace: web}, data: {}, data: {}},\n  {kind: Secret, metadata: {name: b}}]\n", []string{"a", "b"}, named + " holds a field twice: line 3"},
		"List in JSON":              {`{"kind":"List","items":[` + inJSON("a") + `,` + badJSON + `,` + inJSON("b") + `]}`, []string{"a", "b"}, named + " is not JSON: line 1"},
		"List in pretty JSON":       {"{\n\"kind\": \"List\",\n\"items\": [\n" + pretty("a") + ",\n" + badJSON + ",\n" + pretty("b") + "]\n}\n" + inJSON("c"), []string{"a", "b", "c"}, named},
		"the List itself":           {"kind: List\nkind: List\nmetadata:\n  name: all\nitems:\n" + item("a"), []string{"a"}, `document 1: list "all" holds a field twice: line 2`},
		"a Secret alone":            {item("bad")[2:5] + ": x\n" + strings.ReplaceAll(item("bad"), "- ", "  ") + "  data: {}\n", nil, "is not YAML"},
		"JSON, one malformed":       {inJSON("a") + "\n" + badJSON + "\n" + inJSON("b"), []string{"a", "b"}, "document 2: " + named + " is not JSON: line 2"},
		"JSON, the first malformed": {badJSON + "\n" + inJSON("a") + "\n" + inJSON("b"), []string{"a", "b"}, "document 1: " + named},
		"JSON, on one line":         {inJSON("a") + badJSON + inJSON("b"), []string{"a", "b"}, "document 2: " + named},
		"JSON, pretty":              {pretty("a") + strings.Replace(pretty("bad"), `"Secret",`, `"Secret"`, 1) + pretty("b"), []string{"a", "b"}, `document 2: secret "bad"`},
		"JSON, brace missing":       {inJSON("a") + "\n" + strings.TrimSuffix(inJSON("bad"), "}") + "\n" + inJSON("b"), []string{"a", "b"}, "document 2: " + named},
		"JSON, quote missing":       {inJSON("a") + "\n" + strings.Replace(inJSON("bad"), `"data"`, `"data`, 1) + "\n" + inJSON("b"), []string{"a", "b"}, "document 2: " + named},
		"JSON, brace too many":      {inJSON("a") + "}\n" + inJSON("b"), []string{"a", "b"}, "document 2"},
		"JSON, cut off":             {inJSON("a") + "\n" + inJSON("bad")[:70], []string{"a"}, "document 2: " + named},
		"JSON, template":            {inJSON("a") + "\n" + strings.Replace(inJSON("bad"), `"data":{}`, `"data":{{ .Values.data }}`, 1) + "\n" + inJSON("b"), []string{"a", "b"}, named},
		"JSON, text behind it":      {inJSON("a") + " x\n" + inJSON("b"), []string{"a", "b"}, "document 2"},
		"JSON, then block YAML":     {inJSON("a") + "\nkind: Secret\nmetadata:\n  name: b\n", []string{"a", "b"}, ""},
		"JSON, comma too many":      {strings.Replace(inJSON("a"), `{}}`, `{},}`, 1) + "\n" + inJSON("b"), []string{"a", "b"}, ""},
		"flow style, both":          {"{kind: Secret, metadata: {name: a}}\n{kind: Secret, metadata: {name: b}}", []string{"a", "b"}, ""},
		"flow style, malformed":     {"{kind: Secret, metadata: {name: bad, namespace: web}, x: @}\n" + inJSON("b"), []string{"b"}, "document 1: " + named + " is not YAML"},
		"metadata in flow style":    {"kind: Secret\nmetadata: {name: bad, namespace: web}\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"metadata quoted":           {"kind: Secret\nmetadata: {\"name\": \"bad\", 'namespace': 'web'}\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"metadata on lines":         {"kind: Secret\nmetadata: {\n  name: bad,\n  namespace: web, labels: {name: x}\n}\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"fields quoted":             {"\"kind\": \"Secret\"\n\"metadata\":\n  \"name\": bad # it is\n  'namespace': web\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"labels before the name":    {"kind: Secret\nmetadata: {labels: {name: no}, name: bad, namespace: web}\nx: {{ .X }}\n", nil, named + " is not YAML"},
	} {
		for _, tail := range []string{"", "\n---\n" + inJSON("last")} {
			secrets, err := ParseSecrets([]byte(tt.text + tail))
			read := tt.read
			if tail != "" {
				read = append(read[:len(read):len(read)], "last")
			}
			assert.Equal(t, read, readNames(secrets), name)
			if tt.want == "" {
				assert.NoError(t, err, name)
			} else {
				assert.ErrorContains(t, err, tt.want, name)
			}
		}
	}

	// What is malformed costs no more than in proportion to its length.
	for _, part := range []string{`{"a":`, "{", "{\n", `{"items":[`, "kind: List\nitems:\n- ", "[{", "{kind: List, items: [", "{\"kind\": @}\n", "- {{\n"} {
		text := strings.Repeat(part, rounds.Of(500_000)/len(part))
		if part[0] == '-' {
			text = "kind: List\nitems:\n" + text
		}
		_, err := ParseSecrets([]byte(text))
		assert.Error(t, err)
		assert.Less(t, len(err.Error()), 3000)
	}
}
