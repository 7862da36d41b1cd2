package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"path"

	"github.com/posta-tasks/posta/task"
)

//go:embed assets
var assetFiles embed.FS

// assets are the files that pages load. Their address has the hash of all, so browsers may keep them for ever.
type assets struct {
	version string
	files   map[string][]byte
}

func readAssets() (*assets, error) {
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	a := &assets{files: map[string][]byte{}}
	sum := sha256.New()
	for _, entry := range entries {
		content, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
		a.files[entry.Name()] = content
		fmt.Fprintf(sum, "%s %d\n%s", entry.Name(), len(content), content)
	}
	a.version = hex.EncodeToString(sum.Sum(nil))[:12]
	return a, nil
}

// asset answers with a file. Every version gets the current file, since an old page may ask for it during an upgrade;
// only the current version is kept by browsers.
func (d *Dashboard) asset(q *request) *task.Error {
	name := q.r.PathValue("name")
	content, ok := d.assets.files[name]
	if !ok {
		return task.Refuse(task.NotFound, "%s", q.lang.text("missing.page"))
	}
	if q.r.PathValue("version") == d.assets.version {
		q.w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // whatever the tables of the system say
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	case ".LICENSE":
		kind = "text/plain; charset=utf-8"
	}
	q.send(http.StatusOK, kind, content)
	return nil
}

// favicon answers with the icon of the pages.
func (d *Dashboard) favicon(q *request) *task.Error {
	q.w.Header().Set("Cache-Control", "public, max-age=86400")
	q.send(http.StatusOK, "image/svg+xml", d.assets.files["icon.svg"])
	return nil
}
