package actionfile

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/posta-tasks/posta/actionfile/command"
	"github.com/posta-tasks/posta/actionfile/webhook"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker/child"
)

const (
	// maxSlots is the largest number of slots of an action.
	maxSlots = 1024
	// maxCount is the largest number of processes of a worker.
	maxCount = 64
	// minKey and maxKey are the limits of a signing key in bytes, as Standard Webhooks requires.
	minKey, maxKey = 24, 64
	// keyPrefix is the prefix of a signing key in the format of Standard Webhooks.
	keyPrefix = "whsec_"
	// minRedacted is the length of the shortest secret that errors hide. A shorter one could be an ordinary word.
	minRedacted = 6
)

// table is a definition that is being read. It records which keys were asked for, so that the others are unknown.
type table struct {
	*reading
	key    toml.Key
	values map[string]any
	asked  map[string]bool
}

// action reads one definition.
func (r *reading) action(name string, value any) {
	key := toml.Key{"action", name}
	values, ok := value.(map[string]any)
	if !ok {
		r.problem(key, "action.%s is not a table: write [action.%s]", name, name)
		return
	}
	if refusal := task.CheckName("the name of an action", name); refusal != nil || name == "" || len(name) > actions.MaxName {
		r.problem(key, "an action's name has 1 to %d bytes without control characters", actions.MaxName)
	}
	if slices.Contains(r.config.Taken, name) {
		r.problem(key, "the action %s is there already: choose another name", name)
	}
	t := &table{reading: r, key: key, values: values, asked: map[string]bool{}}
	d := Definition{Name: name, Kind: t.text("kind"), Line: r.lines[key.String()], Hash: hashOf(name, values)}
	if d.Kind != "worker" { // a worker has slots of its own, and nodes know the timeouts of tasks only
		d.Slots = int(t.number("slots", 0, 1, maxSlots))
		d.Timeout = t.duration("timeout", time.Millisecond, task.MaxEnqueueTimeout)
	}
	switch d.Kind {
	case "exec":
		c := t.command()
		r.commands[name], d.Target = c, c.Path
	case "http":
		c := t.endpoint()
		c.Idle = d.Slots
		if r.endpoints[name] = c; c.URL != nil {
			d.Target = c.URL.Host
		}
	case "worker":
		p := t.worker()
		r.workers, d.Target, d.Count = append(r.workers, p), p.Path, p.Count
	default:
		t.wrong("kind", "kind is %q: allowed are \"exec\", \"http\" and \"worker\"", d.Kind)
		return
	}
	for _, unknown := range slices.Sorted(maps.Keys(values)) {
		if !t.asked[unknown] {
			t.wrong(unknown, "unknown key %q: an action of kind %s has %s", unknown, d.Kind, strings.Join(slices.Sorted(maps.Keys(t.asked)), ", "))
		}
	}
	r.definitions = append(r.definitions, d)
}

// hashOf returns a hash of a definition. It depends neither on the white space of the file nor on the values of
// secrets.
func hashOf(name string, values map[string]any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %v", name, values)) // fmt prints maps in the order of their keys
	return hex.EncodeToString(sum[:6])
}

func (t *table) wrong(key, format string, args ...any) {
	t.problem(append(slices.Clone(t.key), key), format, args...)
}

// get returns the value of a key, or nil.
func (t *table) get(key string) any {
	t.asked[key] = true
	return t.values[key]
}

func (t *table) text(key string) string {
	switch v := t.get(key).(type) {
	case string:
		return v
	case nil:
		t.wrong(key, "%s is missing", key)
	default:
		t.wrong(key, "%s is not a string", key)
	}
	return ""
}

// number returns the integer of a key, or fallback.
func (t *table) number(key string, fallback, least, most int64) int64 {
	switch v := t.get(key).(type) {
	case nil:
		return fallback
	case int64:
		if v >= least && v <= most {
			return v
		}
	}
	t.wrong(key, "%s must be a whole number from %d to %d", key, least, most)
	return fallback
}

// duration returns the duration of a key, or 0.
func (t *table) duration(key string, least, most time.Duration) time.Duration {
	value := t.get(key)
	if value == nil {
		return 0
	}
	text, _ := value.(string)
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		t.wrong(key, "%s must be a time from %s to %s, such as \"30s\" or \"5m\"", key, least, most)
		return 0
	}
	return d
}

// size returns the bytes of a key, or 0.
func (t *table) size(key string) uint64 {
	switch v := t.get(key).(type) {
	case nil:
		return 0
	case int64:
		if v >= 1<<20 {
			return uint64(v)
		}
	case string:
		for unit, factor := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
			var n uint64
			number, found := strings.CutSuffix(v, unit)
			if _, err := fmt.Sscanf(number+"\n", "%d\n", &n); found && err == nil && n < 1<<20 && n*factor >= 1<<20 {
				return n * factor
			}
		}
	}
	t.wrong(key, "%s must be a size of at least 1 MiB: a number of bytes, or such as \"512MiB\"", key)
	return 0
}

// list returns the values of a key, which must all have one type. If single is set, one value without a list is
// allowed too.
func list[T any](t *table, key string, single bool, what string) []T {
	switch v := t.get(key).(type) {
	case nil:
		return nil
	case T:
		if single {
			return []T{v}
		}
	case []any:
		all := make([]T, 0, len(v))
		for _, item := range v {
			if one, ok := item.(T); ok {
				all = append(all, one)
			}
		}
		if len(all) == len(v) {
			return all
		}
	}
	t.wrong(key, "%s must be a list of %s", key, what)
	return nil
}

// command reads the keys of an action of kind exec.
func (t *table) command() command.Command {
	c := command.Command{Dir: t.dir}
	c.Path, c.Args = t.words()
	if !command.Supported {
		t.wrong("kind", "programs run on Linux only")
	}
	c.Env, c.Secrets = t.environment()
	for _, code := range list[int64](t, "permanent", false, "exit codes, such as [64, 65]") {
		if code == command.ExitRetry {
			t.wrong("permanent", "permanent: %d always means that the task is tried again", code)
		} else if code < 1 || code > 255 {
			t.wrong("permanent", "permanent: %d is not the exit code of a failure: these go from 1 to 255", code)
		}
		c.Permanent = append(c.Permanent, int(code))
	}
	c.Limits.Memory = t.size("memory")
	if cpu := t.duration("cpu", time.Second, task.MaxEnqueueTimeout); cpu > 0 {
		c.Limits.CPU = uint64((cpu + time.Second - 1) / time.Second)
	}
	c.Limits.Files = uint64(t.number("files", 0, 8, 1<<20))
	if key, err := c.Limits.Check(); err != nil {
		t.wrong(key, "%v", err)
	}
	return c
}

// worker reads the keys of an action of kind worker.
func (t *table) worker() child.Program {
	name := t.key[len(t.key)-1]
	p := child.Program{Name: name, Dir: t.dir, Home: true, Count: int(t.number("count", 1, 1, maxCount))}
	p.Path, p.Args = t.words()
	p.Env, p.Secrets = t.environment()
	p.Env = append(append(command.Inherited(), p.Env...), "POSTA_ACTION="+name)
	return p
}

// words reads the command of a program, and returns its path too.
func (t *table) words() (path string, args []string) {
	args = list[string](t, "command", false, `strings, such as ["thumb", "--stdin"]`)
	switch {
	case len(args) == 0 && t.values["command"] == nil:
		t.wrong("command", "command is missing: it is a list, the program and its arguments")
	case len(args) > 0:
		path = t.program(args[0])
	}
	for _, arg := range args {
		if strings.ContainsRune(arg, 0) {
			t.wrong("command", "command has a NUL in it")
		}
	}
	return path, args
}

// environment reads the variables of a program, and returns which of their values are secrets.
func (t *table) environment() (list, secrets []string) {
	env, ok := t.get("env").(map[string]any)
	if t.values["env"] != nil && !ok {
		t.wrong("env", "env must be a table of strings, such as { TZ = \"UTC\" }")
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value, isText := env[name].(string)
		if !isText || strings.ContainsRune(value, 0) || name == "" || strings.ContainsAny(name, "=\x00") || strings.HasPrefix(name, "POSTA_") {
			t.wrong("env", "env: %s must have a string as its value, and a name that does not begin with POSTA_", name)
			continue
		}
		found, secret, err := t.lookUp(value)
		if err != nil {
			t.wrong("env", "env: %s: %v", name, err)
		}
		if list = append(list, name+"="+found); secret && len(found) >= minRedacted {
			secrets = append(secrets, found)
		}
	}
	return list, secrets
}

// program returns the path of a program: a name is looked up in PATH, and a relative path starts at the directory
// of the file.
func (t *table) program(name string) string {
	path := name
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			path = filepath.Join(t.dir, name)
		}
	}
	found, err := exec.LookPath(path)
	if err != nil {
		t.wrong("command", "the program %s is not there, or may not be run: give its path, or make it executable with chmod +x", name)
		return ""
	}
	if abs, err := filepath.Abs(found); err == nil {
		found = abs
	}
	if info, err := os.Stat(found); err == nil && info.Mode().Perm()&0o002 != 0 {
		t.wrong("command", "everybody can change the program %s (mode %#o): run chmod o-w on it", name, info.Mode().Perm())
	}
	return found
}

// endpoint reads the keys of an action of kind http.
func (t *table) endpoint() webhook.Config {
	c := webhook.Config{Agent: t.config.Agent}
	if text := t.text("url"); text != "" {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Host == "" || u.Hostname() == "":
			t.wrong("url", "url must be a URL with a host, such as \"https://example.com/hook\"")
		case u.Scheme != "http" && u.Scheme != "https":
			t.wrong("url", "url has the scheme %q: allowed are http and https", u.Scheme)
		case u.User != nil:
			t.wrong("url", "url has a user or a password in it: endpoints know Posta by its signature, see secret")
		case u.Fragment != "":
			t.wrong("url", "url has a fragment, which is never sent")
		default:
			c.URL = u
		}
	}
	for _, text := range list[string](t, "secret", true, "strings, such as \"env:CRM_SECRET\"") {
		value, _, err := t.lookUp(text)
		if err != nil {
			t.wrong("secret", "secret: %v", err)
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(value, keyPrefix))
		if err != nil || len(key) < minKey || len(key) > maxKey {
			t.wrong("secret", "secret must be %s and the base64 of %d to %d bytes: echo %s$(head -c 32 /dev/urandom | base64) makes one", keyPrefix, minKey, maxKey, keyPrefix)
			continue
		}
		c.Keys = append(c.Keys, key)
	}
	for _, text := range list[string](t, "allow", false, `networks, such as ["10.0.0.0/8"]`) {
		prefix, err := netip.ParsePrefix(text)
		if addr, one := netip.ParseAddr(text); err != nil && one == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			t.wrong("allow", "allow: %q is neither a network, such as 10.0.0.0/8, nor an address", text)
			continue
		}
		if prefix.Addr().Is4In6() { // such addresses are checked as IPv4
			t.wrong("allow", "allow: write %s as an IPv4 network", text)
			continue
		}
		c.Allow = append(c.Allow, prefix.Masked())
	}
	return c
}

// lookUp returns the value of env:NAME or file:PATH, and whether the text is one of these. Any other text is its
// own value. Errors contain the name or the path, never the value.
func (t *table) lookUp(text string) (value string, secret bool, err error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		value, found := t.config.Lookup(name)
		if !found || value == "" {
			return "", true, fmt.Errorf("the environment variable %s is not set", name)
		}
		return value, true, nil
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(t.dir, path)
		}
		value, err := t.readFile(path, maxSecret)
		value = strings.TrimRight(value, "\r\n")
		switch {
		case err != nil:
			return "", true, fmt.Errorf("the secret in %s cannot be read: %w", path, err)
		case value == "" || strings.ContainsRune(value, 0):
			return "", true, fmt.Errorf("the file %s holds no secret", path)
		}
		return value, true, nil
	}
	return text, false, nil
}
