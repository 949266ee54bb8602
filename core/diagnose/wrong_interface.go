package diagnose

func (g *graph) wrongInterfaces() (suspects []suspect) {
	for _, name := range g.names {
		if h := g.hosts[name]; h.node.WrongInterface && h.node.State != "gone" {
			suspects = append(suspects, g.wrongInterface(h))
		}
	}
	return suspects
}
