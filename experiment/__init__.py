"""What a run is: plan, provision, measure, collect, tear down."""
