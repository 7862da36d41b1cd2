package auth_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/auth"
)

// identity returns a client with a subject and grants. limits are what the grants are limited to; nil: nothing.
func identity(t *testing.T, subject string, limits []string, grants ...string) *auth.Identity {
	t.Helper()
	parsed, err := auth.ParseGrants(grants)
	if err != nil {
		t.Fatal(err)
	}
	var within []auth.Grant
	if limits != nil {
		if within, err = auth.ParseGrants(limits); err != nil {
			t.Fatal(err)
		}
	}
	return auth.NewIdentity(auth.Identity{Name: "n", Subject: subject}, parsed, within)
}

// everything, a task of ana, and one of ben.
func resources() map[string]auth.Resource {
	return map[string]auth.Resource{
		"system": {}, "queue mail": {Queue: "mail"}, "run resize": {Action: "resize"},
		"ana's":    {Action: "resize", Queue: "images", Owner: "ana"},
		"ben's":    {Action: "resize", Queue: "images", Owner: "ben"},
		"nobody's": {Action: "resize-2", Queue: "mail"},
	}
}

func TestAGrantAllowsWhatItNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		grant string
		verb  auth.Verb
		want  string // names of resources
	}{
		{"see:*", auth.See, "ana's,ben's,nobody's,queue mail,run resize,system"},
		{"see:*", auth.Cancel, ""},
		{"*", auth.Audit, "ana's,ben's,nobody's,queue mail,run resize,system"},
		{"*:*", auth.Mint, "ana's,ben's,nobody's,queue mail,run resize,system"},
		{"see:own", auth.See, "ana's"},
		{"*:own", auth.Cancel, "ana's"},
		{"*:own", auth.Run, ""},
		{"*:own", auth.Manage, ""},
		{"see:resize", auth.See, "ana's,ben's,run resize"},
		{"see:resize*", auth.See, "ana's,ben's,nobody's,run resize"},
		{"see:resize@images", auth.See, "ana's,ben's"},
		{"see:resize@im*", auth.See, "ana's,ben's"},
		{"see:*@mail", auth.See, "nobody's,queue mail"},
		{"manage:*@mail", auth.Manage, "nobody's,queue mail"},
		{"manage:resize", auth.Manage, "ana's,ben's,run resize"},
		{"run:resize", auth.Run, "ana's,ben's,run resize"},
		{"see:res", auth.See, ""},
		{"see:resize@mai", auth.See, ""},
		{"see:own@images", auth.See, ""}, // an action of the name own
	}
	for _, test := range tests {
		who := identity(t, "ana", nil, test.grant)
		var got []string
		for name, on := range resources() {
			if auth.Authorize(who, test.verb, on) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, ",") != test.want {
			t.Errorf("%s allows %s on %q, want %q", test.grant, test.verb, got, test.want)
		}
	}
}

func TestNobodyAndAnEmptySubjectMayDoNothing(t *testing.T) {
	t.Parallel()
	for name, on := range resources() {
		for _, verb := range append(auth.Verbs(), 0) {
			if auth.Authorize(nil, verb, on) {
				t.Errorf("an unknown client may %s %s", verb, name)
			}
			if auth.Authorize(identity(t, "", nil, "*:own"), verb, on) {
				t.Errorf("a client without a subject owns %s", name)
			}
		}
	}
}

func TestALimitedIdentityMayDoOnlyWhatBothAllow(t *testing.T) {
	t.Parallel()
	who := identity(t, "ana", []string{"run:*", "enqueue:*", "see:own"}, "*")
	ana, ben := resources()["ana's"], resources()["ben's"]
	for verb, want := range map[auth.Verb][2]bool{auth.See: {true, false}, auth.Run: {true, true}, auth.Cancel: {false, false}, auth.Manage: {false, false}} {
		if got := [2]bool{auth.Authorize(who, verb, ana), auth.Authorize(who, verb, ben)}; got != want {
			t.Errorf("%s: %v, want %v", verb, got, want)
		}
	}
	if who.All(auth.See) || auth.Any(who, auth.Cancel) || !auth.Any(who, auth.See) {
		t.Error("All or Any forgets the limit")
	}
	if owner, ok := who.OnlyOwn(auth.See); !ok || owner != "ana" {
		t.Errorf("OnlyOwn = %q, %v", owner, ok)
	}
	if _, ok := identity(t, "ana", nil, "see:own", "see:mail").OnlyOwn(auth.See); ok {
		t.Error("a client that sees mail counts as one that sees its own tasks only")
	}
}

func TestHostileTextsAreNoGrants(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", ":", "see", "see:", ":*", "sea:*", "See:*", "see :*", "see: *", " see:*", "see:*\n", "see:a b", "see:a\x00", "see:a@", "see:@q", "see:*a", "see:a*b", "see:**",
		"see:a@b@c", "see:a@*b", "see:\xff", "see:a\u0085\x7f", "run:own", "enqueue:own", "work:own", "manage:own", "mint:own", "audit:own", "run:a@q", "none:*",
		"see:" + strings.Repeat("a", 253), "all", "* ", "**",
	} {
		if g, err := auth.ParseGrant(text); err == nil {
			t.Errorf("%q is taken as %q", text, g)
		}
	}
	if _, err := auth.ParseGrants(nil); err == nil {
		t.Error("a token without grants is taken")
	}
	if _, err := auth.ParseGrants(slices.Repeat([]string{"see:*"}, 65)); err == nil {
		t.Error("65 grants are taken")
	}
}

func TestGrantsKeepTheirText(t *testing.T) {
	t.Parallel()
	texts := []string{"*", "see:*", "see:own", "*:own", "work:resize@images", "work:re*@im*", "cancel:resize", "manage:*@mail", "see:ñandú"}
	grants, err := auth.ParseGrants(texts)
	if err != nil || !slices.Equal(auth.Texts(grants), texts) {
		t.Errorf("%q, %v", auth.Texts(grants), err)
	}
}

func TestNobodyDelegatesMoreThanOneHas(t *testing.T) {
	t.Parallel()
	tests := []struct {
		has, limits, gives []string
		ok                 bool
	}{
		{[]string{"*"}, nil, []string{"*", "see:own"}, true},
		{[]string{"see:*"}, nil, []string{"see:own", "see:a", "see:a*@b"}, true},
		{[]string{"see:*"}, nil, []string{"*:own"}, false},
		{[]string{"see:*"}, nil, []string{"*"}, false},
		{[]string{"see:*", "cancel:*"}, nil, []string{"retry:a"}, false},
		{[]string{"see:own"}, nil, []string{"see:own"}, true},
		{[]string{"see:own"}, nil, []string{"see:a"}, false},
		{[]string{"see:a*"}, nil, []string{"see:own"}, false},
		{[]string{"see:a*"}, nil, []string{"see:ab*", "see:a", "see:ab@q"}, true},
		{[]string{"see:a"}, nil, []string{"see:a*"}, false},
		{[]string{"see:a@q"}, nil, []string{"see:a"}, false},
		{[]string{"see:a@q*"}, nil, []string{"see:a@q", "see:a@qq*"}, true},
		{[]string{"see:own", "signal:own", "cancel:own", "retry:own"}, nil, []string{"*:own"}, true},
		{[]string{"*"}, []string{"see:*"}, []string{"see:a"}, true},
		{[]string{"*"}, []string{"see:*"}, []string{"cancel:a"}, false},
	}
	for _, test := range tests {
		grants, err := auth.ParseGrants(test.gives)
		if err != nil {
			t.Fatal(err)
		}
		outside, ok := identity(t, "ana", test.limits, test.has...).Delegates(grants)
		if ok != test.ok || ok != (outside == "") {
			t.Errorf("%q within %q gives %q: %v, outside %q", test.has, test.limits, test.gives, ok, outside)
		}
	}
}

func TestTheRolesAreThoseOfTheDocumentation(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"submitter": "run:* enqueue:* see:own cancel:own", "viewer": "see:*", "operator": "see:* cancel:* retry:* manage:*", "worker": "work:*", "admin": "*",
	}
	if len(auth.Roles()) != len(want) {
		t.Errorf("roles %q", auth.Roles())
	}
	for role, text := range want {
		grants, err := auth.RoleGrants(role)
		if err != nil || strings.Join(grants, " ") != text {
			t.Errorf("%s: %q, %v", role, grants, err)
		}
		if _, err := auth.ParseGrants(grants); err != nil {
			t.Error(err)
		}
	}
	if _, err := auth.RoleGrants("root"); err == nil {
		t.Error("there is a role root")
	}
}

func FuzzGrant(f *testing.F) {
	for _, seed := range []string{"see:own", "*", "work:re*@im*", "run:a@q", "see:\xff"} {
		f.Add(seed, "resize", "images")
	}
	f.Fuzz(func(t *testing.T, text, action, queue string) {
		g, err := auth.ParseGrant(text)
		if err != nil {
			return
		}
		again, err := auth.ParseGrant(g.String())
		if err != nil || again != g {
			t.Fatalf("%q becomes %q, and then %v", text, g, err)
		}
		who := auth.NewIdentity(auth.Identity{Subject: "ana"}, []auth.Grant{g}, nil)
		on := auth.Resource{Action: action, Queue: queue, Owner: "ben"}
		if auth.Authorize(who, auth.See, on) && !auth.Authorize(auth.Open(), auth.See, on) {
			t.Fatal("more than everything")
		}
	})
}
