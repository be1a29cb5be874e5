package e2e

import (
	"encoding/json"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// What is delivered for Prometheus and Grafana.
const (
	dashboardFile = "../../deploy/observability/grafana/dashboard.json"
	metricsDoc    = "../../docs/metrics.md"
)

// dashboard is what the tests look at of Grafana's.
type dashboard struct {
	Panels []struct {
		ID         int
		Type       string
		Title      string
		GridPos    struct{ X, Y, W, H int }
		Datasource datasource
		Targets    []struct {
			RefID    string
			Expr     string
			Query    string // TraceQL
			Exemplar bool
		}
	}
	Templating struct {
		List []struct {
			Name, Type, Query string
			Datasource        datasource
		}
	}
	Annotations struct {
		List []struct {
			Name       string
			Datasource datasource
			Target     struct{ Expr string }
		}
	}
}

type datasource struct{ Type, UID string }

// asked is a query that is to return data.
type asked struct {
	where, query string
	exemplars    bool // and traces
	alert        bool // it is the condition of one
}

func readDashboard(t testing.TB) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(contentOf(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// filled is a query as Grafana sends it: for all nodes, drivers and methods, on a screen
// of an hour, which Prometheus scrapes each 15 seconds.
var filled = strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$node", ".*", "$driver", ".*", "$method", ".*")

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// queries are all that the dashboard asks Prometheus for.
func (d dashboard) queries() (all []asked) {
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			if q.Expr != "" {
				all = append(all, asked{where: p.Title + " " + q.RefID, query: filled.Replace(q.Expr), exemplars: q.Exemplar})
			}
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, asked{where: "annotation " + a.Name, query: filled.Replace(a.Target.Expr)})
	}
	for _, v := range d.Templating.List {
		if m := labelValues.FindStringSubmatch(v.Query); m != nil {
			all = append(all, asked{where: "variable " + v.Name, query: "group by (" + m[2] + ") (" + m[1] + ")"})
		}
	}
	return all
}

// docQueries are those of docs/metrics.md: one a line, or on several that are indented.
func docQueries(t testing.TB) (all []asked) {
	t.Helper()
	_, rest, _ := strings.Cut(contentOf(t, metricsDoc), "\n## Queries\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	block, _, _ := strings.Cut(rest, "```\n")
	about := ""
	for line := range strings.Lines(block) {
		switch {
		case strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "# "):
			about = strings.TrimSpace(line)
		case strings.HasPrefix(line, " "):
			all[len(all)-1].query += line
		default:
			all = append(all, asked{where: about, query: line})
		}
	}
	return all
}

// TestDashboard holds what Grafana would not say, or say to a person only.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	ids, taken, titles := map[int]bool{}, map[[2]int]string{}, map[string]bool{}
	variable := func(where string, of datasource) {
		if of != (datasource{"prometheus", "${datasource}"}) && of != (datasource{"tempo", "${tempo}"}) {
			t.Errorf("%s: of another's data source: %+v", where, of)
		}
	}
	for _, p := range d.Panels {
		if ids[p.ID] || titles[p.Title] {
			t.Errorf("%d %s: there are two", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		g := p.GridPos
		if g.X < 0 || g.W < 1 || g.X+g.W > 24 {
			t.Errorf("%s: is not on the grid: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s is over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		variable(p.Title, p.Datasource)
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || (q.Expr == "") == (q.Query == "") {
				t.Errorf("%s: %+v", p.Title, q)
			}
			refs[q.RefID] = true
		}
		if len(refs) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			variable(v.Name, v.Datasource)
		}
	}
	for _, a := range d.Annotations.List {
		variable(a.Name, a.Datasource)
	}
	for _, q := range d.queries() {
		if strings.Contains(q.query, "$") {
			t.Errorf("%s: a variable that there is not: %s", q.where, q.query)
		}
	}
}

var documented = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (histogram|gauge|counter) \\|")

// checkDocumented holds that the agent has the metrics that docs/metrics.md says, and no
// others. Dashboard and alerts go by these, or they had no data.
func checkDocumented(t testing.TB, p *lab.Prometheus) {
	t.Helper()
	all, err := p.TargetsMetadata(t.Context(), `{job="grpc-tap"}`, "", "")
	if err != nil {
		t.Fatal(err)
	}
	has, says := map[string]string{}, map[string]string{}
	for _, m := range all {
		if !strings.HasPrefix(m.Metric, "go_") && !strings.HasPrefix(m.Metric, "process_") {
			has[m.Metric] = string(m.Type)
		}
	}
	for _, m := range documented.FindAllStringSubmatch(contentOf(t, metricsDoc), -1) {
		says[strings.TrimSuffix(m[1], "_total")] = m[2] // as OpenMetrics names them
	}
	if !maps.Equal(has, says) {
		t.Errorf("the agent has %v, and docs/metrics.md says %v", has, says)
	}
}
